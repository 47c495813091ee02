"""Targets and losses of a centre-based detector (CenterPoint, arXiv 2006.11275).

Heat map: penalty-reduced focal loss of CornerNet (arXiv 1808.01244, equation 1). Boxes: L1 at the centres' cells.
Letters: B samples, K classes, X x Y ground cells, N objects. Boxes as in hvd.geometry.centres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from hvd.geometry.centres import encode
from hvd.geometry.grid import GridSpec
from hvd.models.detector_config import DetectionLossConfig

_ALPHA, _BETA = 2, 4  # CornerNet's: how fast easy cells fade, and those near a centre


@dataclass(frozen=True)
class CentreTargets:
    """What the maps of a batch should say."""

    heat: Float[Tensor, "B K X Y"]  # 1 in the cell of each centre, a Gaussian around it
    cell: Int64[Tensor, " N"]  # of each object, flat over (B, X, Y)
    code: Float[Tensor, "N 8"]


def centre_targets(
    boxes: Sequence[Tensor], classes: Sequence[Tensor], grid: GridSpec, num_classes: int, config: DetectionLossConfig
) -> CentreTargets:
    """Targets of a batch; an object whose centre is off the grid has none.

    Args:
        boxes: B times (n, 7), of positive size.
        classes: B times (n,) int64, 0..K-1.
        grid: the head's ground cells.
        num_classes: K.
        config: how wide the Gaussians are.
    """
    heat, cells, codes = [], [], []
    for sample, (box, label) in enumerate(zip(boxes, classes, strict=True)):
        index, inside = grid.cells(box[:, :2])
        index, box, label = index[inside], box[inside], label[inside]
        length, width = (box[:, 3:5] / box.new_tensor(grid.cell)).unbind(1)
        radius = gaussian_radius(length, width, config.min_overlap)
        heat.append(heat_map(index, label, radius.floor().clamp(min=config.min_radius), grid.shape, num_classes))
        cells.append(sample * grid.num_cells + grid.flat(index))
        codes.append(encode(box, index, grid))
    return CentreTargets(torch.stack(heat), torch.cat(cells), torch.cat(codes))


def gaussian_radius(length: Float[Tensor, " N"], width: Float[Tensor, " N"], min_overlap: float) -> Float[Tensor, " N"]:
    """How far a box may shift along both of its axes and still overlap itself by `min_overlap` (IoU).

    The smaller root r of (l - r)(w - r) = 2 o l w / (1 + o), in the unit of the edges. (CornerNet adds two cases, of
    corners that move apart or together: here a box has one centre and its size is learnt beside.)
    """
    total = length + width
    lost = length * width * (1 - min_overlap) / (1 + min_overlap)
    return (total - (total**2 - 4 * lost).sqrt()) / 2


def heat_map(
    cell: Int64[Tensor, "N 2"],
    classes: Int64[Tensor, " N"],
    radius: Float[Tensor, " N"],
    shape: tuple[int, ...],
    num_classes: int,
) -> Float[Tensor, "K X Y"]:
    """The larger of all objects' Gaussians in each cell; each is cut off at its radius, three standard deviations."""
    sigma = (2 * radius + 1) / 6
    bumps = []
    for axis, size in enumerate(shape):
        step = torch.arange(size, device=cell.device) - cell[:, axis : axis + 1]  # (N, size)
        bumps.append(torch.exp(-(step**2) / (2 * sigma[:, None] ** 2)) * (step.abs() <= radius[:, None]))
    each = bumps[0][:, :, None] * bumps[1][:, None]  # (N, X, Y)
    heat = each.new_zeros(num_classes, *shape)
    return heat.scatter_reduce(0, classes[:, None, None].expand_as(each), each, "amax")


def heat_loss(logits: Float[Tensor, "B K X Y"], heat: Float[Tensor, "B K X Y"]) -> Float[Tensor, ""]:
    """Focal loss summed over all cells, per centre (or by itself where there is none)."""
    logits = logits.float()
    probability, centre = logits.sigmoid(), heat == 1
    hit = (1 - probability) ** _ALPHA * F.logsigmoid(logits)
    miss = (1 - heat) ** _BETA * probability**_ALPHA * F.logsigmoid(-logits)
    return -torch.where(centre, hit, miss).sum() / centre.sum().clamp(min=1)


def box_loss(
    code_map: Float[Tensor, "B 8 X Y"], cell: Int64[Tensor, " N"], code: Float[Tensor, "N 8"]
) -> Float[Tensor, ""]:
    """L1 between the codes at the objects' cells and theirs, summed over the eight numbers, mean over objects."""
    predicted = code_map.float().permute(0, 2, 3, 1).reshape(-1, code_map.shape[1])[cell]
    return (predicted - code).abs().sum() / max(len(cell), 1)
