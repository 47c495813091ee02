"""Lift and splat without the frustum: every image ray adds depth-weighted context to the ground cells that it crosses.

Lift-splat (arXiv 2008.05711) materialises one feature row per pixel and depth bin. Here the splat is the product of a
sparse matrix, one entry per (pixel, bin), with the rows of context: the same sum, and no row is copied.

Letters: N images, D depth bins, h x w feature cells, P = N h w pixels, C channels, E entries (pixel, bin) that count.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.sparse import csc_array
from torch import Tensor

from hvd.geometry.camera import cell_centres, rays
from hvd.geometry.grid import GridSpec

_EXACT_IN_FLOAT32 = 2**24


def frustum_cells(
    grid: GridSpec,
    depth_m: Tensor,
    height: int,
    width: int,
    stride: int,
    lidar_from_camera: Tensor,
    intrinsics: Tensor,
    aug_from_image: Tensor,
    aug_from_lidar: Tensor,
) -> Tensor:
    """Grid cell of each feature cell's centre, lifted at each depth.

    Args:
        grid: x, y, z in the augmented LiDAR frame; one cell in z is the slab.
        depth_m: (D,) metres, of the unaugmented camera.
        height, width, stride: the feature map, and its input pixels per cell.
        lidar_from_camera: (N, 4, 4).
        intrinsics: (N, 3, 3) of the original image.
        aug_from_image: (N, 3, 3).
        aug_from_lidar: (N, 4, 4), each image's own sample's.

    Returns:
        (N, height * width, D) int32 flat cell, -1 outside the grid.

    Raises:
        ValueError: the grid has 2^24 cells or more.
    """
    if grid.num_cells >= _EXACT_IN_FLOAT32:
        raise ValueError(f"{grid.num_cells} cells: a splat's grid has fewer than {_EXACT_IN_FLOAT32}")
    uv = _centres(height, width, stride, lidar_from_camera.device)
    matrices = (m.double() for m in (lidar_from_camera, intrinsics, aug_from_image, aug_from_lidar))
    origin, direction = rays(uv, *matrices)  # (N, 1, 3), (N, h w, 3)
    low, cell_m = (origin.new_tensor(x) for x in (grid.minimum, grid.cell))
    # In cells, counted from the grid's corner: what is left for each entry is a multiply-add and a floor, in float32.
    start = ((origin - low) / cell_m).float()
    slope = (direction / cell_m).float()
    depth = depth_m.to(slope)
    # One image at a time, so that the temporaries stay in the processor's cache.
    return torch.stack([_cells_along(slope[n], start[n, 0], depth, grid.shape) for n in range(len(slope))])


def _centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Pixels (h w, 2) at the feature cells' centres, row by row."""
    v, u = torch.meshgrid(*(torch.from_numpy(cell_centres(n, stride)) for n in (height, width)), indexing="ij")
    return torch.stack([u, v], dim=-1).flatten(0, 1).to(device)


def _cells_along(slope: Tensor, start: Tensor, depth: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(h w, 3), (3,), (D,) in cells -> (h w, D) int32; float32 to the end, as one type runs twice as fast as three."""
    flat = slope.new_zeros(len(slope), len(depth))
    overshoot = torch.zeros_like(flat)
    for axis, count in enumerate(shape):
        index = torch.outer(slope[:, axis], depth).add_(start[axis]).floor_()
        inside = index.clamp(0, count - 1)
        overshoot += index.sub_(inside).abs_()
        flat.mul_(count).add_(inside)
    return flat.masked_fill_(overshoot > 0, -1).to(torch.int32)


class Splat(NamedTuple):
    """Image features on the ground."""

    feature: Tensor  # (B, cells, C) float32, 0 where no ray reaches
    reached: Tensor  # (B, cells) bool


def splat(
    context: Tensor,
    weight: Tensor,
    cell: Tensor,
    image_batch: Tensor,
    batch: int,
    num_cells: int,
    min_weight: float = 0.0,
) -> Splat:
    """Sum of weight x context over all rays, per ground cell; in float32 whatever the caller's autocast.

    Args:
        context: (N, C, h, w).
        weight: (N, D, h, w) depth probabilities.
        cell: (N, h * w, D) int32 from `frustum_cells`.
        image_batch: (N,) the sample of each image, 0..batch-1.
        batch: number of samples B.
        num_cells: cells of one sample's grid.
        min_weight: entries below it are left out, of the sum and of `reached`.
    """
    with torch.autocast(context.device.type, enabled=False):
        rows = context.float().flatten(2).mT.contiguous().flatten(0, 1)  # (P, C)
        weights = weight.float().flatten(2).mT.contiguous().flatten(0, 1)  # (P, D)
        entries = _entries(weights.detach(), cell, image_batch, num_cells, min_weight)
        feature, reached = _WeightedSum.apply(rows, weights, entries, batch * num_cells)
    return Splat(feature.view(batch, num_cells, -1), reached.view(batch, num_cells))


class _Entries(NamedTuple):
    """The sparse matrix that the splat multiplies with: one entry per (pixel, bin) that counts, in pixel order."""

    position: Tensor  # (E,) int64 into the flattened (P, D) weights
    cell: Tensor  # (E,) int32 into all samples' cells
    weight: Tensor  # (E,) float32
    first: Tensor  # (P + 1,) int32: pixel p owns entries first[p]:first[p + 1]


def _entries(weights: Tensor, cell: Tensor, image_batch: Tensor, num_cells: int, min_weight: float) -> _Entries:
    keep = cell.reshape(weights.shape) >= 0
    if min_weight > 0:
        keep &= weights >= min_weight
    position = keep.view(-1).nonzero()[:, 0]
    pixel_starts = torch.arange(len(weights) + 1, device=keep.device) * weights.shape[1]
    first = torch.searchsorted(position, pixel_starts, out_int32=True)
    batched = cell + (image_batch * num_cells).to(cell)[:, None, None]
    return _Entries(
        position, batched.view(-1).index_select(0, position), weights.view(-1).index_select(0, position), first
    )


class _WeightedSum(torch.autograd.Function):
    """out[cell] = sum of weight x row over the cell's entries.

    Autograd through `embedding_bag` would sort the entries once more for the rows' gradient. In pixel order, both
    gradients come from one `embedding_bag` over the cells' gradients, and nothing is sorted.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, entries: _Entries, total: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, *entries)
        ctx.weights_shape = weights.shape
        by_cell = _counting_sort if rows.device.type == "cpu" else _stable_sort
        pixel, weight, first = by_cell(entries, total)
        out = F.embedding_bag(pixel, rows, first, mode="sum", per_sample_weights=weight, include_last_offset=True)
        reached = first.diff() > 0
        ctx.mark_non_differentiable(reached)
        return out, reached

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, *saved = ctx.saved_tensors
        entries = _Entries(*saved)
        with torch.enable_grad():
            weight = entries.weight.detach().requires_grad_()
            grad_rows = F.embedding_bag(
                entries.cell,
                grad.contiguous(),
                entries.first,
                mode="sum",
                per_sample_weights=weight,
                include_last_offset=True,
            )
        # d/d weight of <row, grad_rows> is <row, grad[cell]>, which is what the weight's gradient has to be.
        (grad_weight,) = torch.autograd.grad(grad_rows, weight, rows)
        grad_weights = torch.zeros(ctx.weights_shape, device=grad.device)
        grad_weights.view(-1).index_copy_(0, entries.position, grad_weight)
        return grad_rows.detach(), grad_weights, None, None


def _counting_sort(entries: _Entries, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """The entries in cell order: pixel (E,) int32, weight (E,), first entry of each cell (total + 1,) int32.

    On the CPU alone: SciPy's change from columns to rows takes a third of the time of `_stable_sort`.
    """
    columns = entries.weight.numpy(), entries.cell.numpy(), entries.first.numpy()
    rows = csc_array(columns, shape=(total, len(entries.first) - 1)).tocsr()
    return torch.from_numpy(rows.indices), torch.from_numpy(rows.data), torch.from_numpy(rows.indptr)


def _stable_sort(entries: _Entries, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same on any device."""
    cell, order = torch.sort(entries.cell, stable=True)
    pixel = torch.repeat_interleave(entries.first.diff(), output_size=len(cell)).to(torch.int32)
    first = torch.searchsorted(cell, torch.arange(total + 1, device=cell.device, dtype=cell.dtype), out_int32=True)
    return pixel[order], entries.weight[order], first
