"""The splat against the frustum it avoids, and its cells against lifting one point at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hvd.geometry.camera import crop, flip, lift, project, resize, warp
from hvd.geometry.grid import GridSpec
from hvd.geometry.se3 import from_quaternion, inverse, transform
from hvd.models.splat import _counting_sort, _entries, _stable_sort, frustum_cells, splat

SHAPES = [(1, 1, 3, 2, 2, 5), (2, 3, 7, 4, 5, 9), (3, 2, 5, 3, 6, 4), (2, 4, 50, 8, 6, 16)]  # B, K, D, h, w, C
NUM_CELLS = 40


def case(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Context, weight, cell and image_batch; a third of the entries lie outside, and cells 30 and above stay empty."""
    batch, cameras, bins, height, width, channels = shape
    images, draw = batch * cameras, torch.Generator().manual_seed(sum(shape))
    context = torch.randn(images, channels, height, width, generator=draw, dtype=dtype)
    weight = (3 * torch.randn(images, bins, height, width, generator=draw, dtype=dtype)).softmax(1)
    cell = torch.randint(-15, 30, (images, height * width, bins), generator=draw, dtype=torch.int32).clamp(min=-1)
    order = torch.randperm(images, generator=draw)  # images of one sample need not lie side by side
    return context, weight, cell, torch.arange(batch).repeat_interleave(cameras)[order]


def materialised(
    context: Tensor, weight: Tensor, cell: Tensor, image_batch: Tensor, batch: int, min_weight: float
) -> tuple[Tensor, Tensor]:
    """One feature row per (pixel, bin), as lift-splat has it, in float64."""
    rows = torch.einsum("nchw,ndhw->nhwdc", context.double(), weight.double()).flatten(0, 3)
    keep = (cell >= 0) & (weight.flatten(2).mT >= min_weight)
    index = (image_batch[:, None, None] * NUM_CELLS + cell)[keep].long()
    feature = torch.zeros(batch * NUM_CELLS, context.shape[1], dtype=torch.float64).index_add(
        0, index, rows[keep.flatten()]
    )
    return feature.view(batch, NUM_CELLS, -1), torch.bincount(index, minlength=batch * NUM_CELLS).view(batch, -1) > 0


@pytest.mark.parametrize("min_weight", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_materialised_frustum_with_both_gradients(shape: tuple[int, ...], min_weight: float) -> None:
    context, weight, cell, image_batch = case(shape)
    ours = [context.clone().requires_grad_(), weight.clone().requires_grad_()]
    plain = [context.clone().requires_grad_(), weight.clone().requires_grad_()]

    feature, reached = splat(*ours, cell, image_batch, shape[0], NUM_CELLS, min_weight)
    expected, expected_reached = materialised(*plain, cell, image_batch, shape[0], min_weight)

    torch.testing.assert_close(feature, expected.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(reached, expected_reached)
    assert reached.any() and not reached.all()
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    feature.backward(grad.float())
    expected.backward(grad)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_one_ray_by_hand() -> None:
    context = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
    weight = torch.tensor([0.5, 0.2, 0.3]).view(1, 3, 1, 1)
    cell = torch.tensor([[[1, 1, 3]]], dtype=torch.int32)

    feature, reached = splat(context, weight, cell, torch.tensor([0]), batch=1, num_cells=5)

    expected = torch.zeros(1, 5, 2)
    expected[0, 1], expected[0, 3] = torch.tensor([1.4, -0.7]), torch.tensor([0.6, -0.3])
    torch.testing.assert_close(feature, expected)
    assert reached.tolist() == [[False, True, False, True, False]]


def test_no_entry_at_all_gives_zeros_and_zero_gradients() -> None:
    context, weight, cell, image_batch = case(SHAPES[1])
    context.requires_grad_(), weight.requires_grad_()
    feature, reached = splat(context, weight, torch.full_like(cell, -1), image_batch, 2, NUM_CELLS)
    feature.sum().backward()
    assert not feature.any() and not reached.any()
    assert not context.grad.any() and not weight.grad.any()


def test_float32_under_autocast() -> None:
    context, weight, cell, image_batch = case(SHAPES[1])
    plain = splat(context, weight, cell, image_batch, 2, NUM_CELLS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = splat(context.bfloat16(), weight, cell, image_batch, 2, NUM_CELLS)
    assert mixed.feature.dtype == torch.float32
    rounded = splat(context.bfloat16().float(), weight, cell, image_batch, 2, NUM_CELLS)
    assert torch.equal(mixed.feature, rounded.feature)
    assert not torch.equal(mixed.feature, plain.feature)


def test_gradient_reaches_bfloat16_inputs_in_their_type() -> None:
    context, weight, cell, image_batch = case(SHAPES[1])
    context = context.bfloat16().requires_grad_()
    splat(context, weight, cell, image_batch, 2, NUM_CELLS).feature.sum().backward()
    assert context.grad.dtype == torch.bfloat16 and context.grad.any()


def test_same_bits_twice() -> None:
    context, weight, cell, image_batch = case(SHAPES[3])

    def run() -> tuple[Tensor, Tensor, Tensor]:
        leaves = context.clone().requires_grad_(), weight.clone().requires_grad_()
        feature = splat(*leaves, cell, image_batch, 2, NUM_CELLS).feature
        feature.square().sum().backward()
        return feature, leaves[0].grad, leaves[1].grad

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


GRID = GridSpec((-20.0, -10.0, -3.0), (20.0, 10.0, 2.0), (0.5, 0.4, 5.0))
STRIDE, HEIGHT, WIDTH = 4, 6, 9
DEPTHS = torch.arange(30) * 0.7 + 1.35


def rig() -> dict[str, np.ndarray]:
    """Two cameras and samples, each with its own image and point augmentation, all float64."""
    forward = np.array([[0.0, 0, 1, 0.3], [-1, 0, 0, 0.1], [0, -1, 0, -0.4], [0, 0, 0, 1]])
    yaw = from_quaternion(np.array([np.cos(0.4), 0, 0, np.sin(0.4)]), np.array([0.2, -0.1, 0.3]))
    mirrored = np.diag([1.05, -1.05, 1.05, 1.0]) @ yaw
    mirrored[:3, 3] += [1.0, -0.5, 0.2]
    scene = resize(0.5, 0.45)
    return {
        "lidar_from_camera": np.stack([forward, yaw @ forward]),
        "intrinsics": np.array([[[60.0, 0, 36], [0, 58, 26], [0, 0, 1]], [[80.0, 0, 34], [0, 81, 27], [0, 0, 1]]]),
        "aug_from_image": np.stack([flip(36) @ crop(3, 2) @ scene, crop(-4, 1.5) @ scene]),
        "aug_from_lidar": np.stack([np.eye(4), mirrored]),
    }


def test_cells_equal_lifting_each_pixel() -> None:
    matrices = {name: torch.from_numpy(m) for name, m in rig().items()}
    cell = frustum_cells(GRID, DEPTHS, HEIGHT, WIDTH, STRIDE, **matrices)
    assert cell.shape == (2, HEIGHT * WIDTH, len(DEPTHS)) and cell.dtype == torch.int32

    rows, columns = np.divmod(np.arange(HEIGHT * WIDTH), WIDTH)
    uv = np.stack([columns, rows], 1) * STRIDE + (STRIDE - 1) / 2
    for image in range(2):
        one = {name: m[image].numpy() for name, m in matrices.items()}
        for i, depth in enumerate(DEPTHS.double().numpy()):
            points = lift(uv, np.full(len(uv), depth), **one)
            index, inside = GRID.cells(points)
            expected = np.where(inside, GRID.flat(index), -1)
            got = cell[image, :, i].numpy()
            near_border = np.abs((points - GRID.minimum) / GRID.cell % 1 - 0.5).max(1) > 0.5 - 1e-4
            assert np.array_equal(got[~near_border], expected[~near_border])
    assert (cell >= 0).any() and (cell < 0).any()


def test_a_seen_point_lies_in_the_cell_of_its_pixel_and_bin() -> None:
    """Project a point, move its pixel onto a feature cell's centre, and find the point again along that cell's ray."""
    matrices = rig()
    draw = np.random.default_rng(0)
    points = np.stack([draw.uniform(2, 18, 4000), draw.uniform(-9, 9, 4000), draw.uniform(-2.5, 1.5, 4000)], 1)
    found = 0
    for image in range(2):
        one = {name: m[image] for name, m in matrices.items()}
        uv, depth = project(points, inverse(one["lidar_from_camera"]), one["intrinsics"])
        uv = warp(one["aug_from_image"], uv)
        seen = (depth > 1.5) & ((uv > -0.5) & (uv < np.array([WIDTH, HEIGHT]) * STRIDE - 0.5)).all(1)
        column, row = np.floor((uv[seen] + 0.5) / STRIDE).astype(int).T
        shift = uv[seen] - ((np.stack([column, row], 1) + 0.5) * STRIDE - 0.5)
        for point, u_v, d, pixel in zip(points[seen], shift, depth[seen], row * WIDTH + column, strict=True):
            shifted = one["aug_from_image"].copy()
            shifted[:2, 2] -= u_v  # an augmentation that puts the point exactly on the centre
            moved = {name: torch.from_numpy(m)[None] for name, m in {**one, "aug_from_image": shifted}.items()}
            cells = frustum_cells(GRID, torch.tensor([d]), HEIGHT, WIDTH, STRIDE, **moved)
            augmented = transform(one["aug_from_lidar"], point[None])
            index, inside = GRID.cells(augmented)
            if np.abs((augmented - GRID.minimum) / GRID.cell % 1 - 0.5).max() < 0.499:
                assert cells[0, pixel, 0] == (GRID.flat(index)[0] if inside[0] else -1)
                found += inside[0]
            if found > 60 * (image + 1):
                break
    assert found > 100


def test_nothing_behind_the_cameras() -> None:
    behind = GridSpec((-20.0, -10.0, -3.0), (-1.0, 10.0, 2.0), (0.5, 0.4, 5.0))
    matrices = {name: torch.from_numpy(m[:1]) for name, m in rig().items()}
    assert (frustum_cells(behind, DEPTHS, HEIGHT, WIDTH, STRIDE, **matrices) == -1).all()


def test_a_grid_too_fine_for_float32_is_refused() -> None:
    fine = GridSpec((0.0, 0.0, 0.0), (4096.0, 4096.0, 1.0), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="16777216 cells"):
        frustum_cells(fine, DEPTHS, HEIGHT, WIDTH, STRIDE, **{k: torch.from_numpy(m) for k, m in rig().items()})


@pytest.mark.parametrize("shape", SHAPES)
def test_both_sorts_agree(shape: tuple[int, ...]) -> None:
    """The CPU's and the one for other devices: the same entries in the same order, so the same bits."""
    _, weight, cell, image_batch = case(shape)
    rows = weight.flatten(2).mT.contiguous().flatten(0, 1)
    entries = _entries(rows, cell, image_batch, NUM_CELLS, 0.01)
    pairs = zip(_counting_sort(entries, shape[0] * NUM_CELLS), _stable_sort(entries, shape[0] * NUM_CELLS), strict=True)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)
