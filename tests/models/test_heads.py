"""Heads: unit length, pixel centres, and the student's ground cells against a plain loop and a dense convolution."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvd.config import parse
from hvd.errors import UsageError
from hvd.geometry.grid import GridSpec
from hvd.models.config import PAPER_BEV_HEAD, PAPER_UNET, SMALL_BEV_HEAD, BevHeadConfig
from hvd.models.heads import ConvBevHead, PixelHead, PointHead, SegmentationHead, build_bev_head
from stages.recipes import load
from tests.models.dense import at, random_coords, to_dense

VOXEL_M, SLAB_M = 0.2, (-0.4, 0.4)  # cells of 2 x 3 voxels, a slab of 4
EDGES_M = (VOXEL_M, VOXEL_M, VOXEL_M)
GRID = GridSpec((-1.6, -1.8), (1.6, 1.8), (0.4, 0.6))  # 8 x 6 cells
CONV = BevHeadConfig(kind="conv", channels=16, strides=((2, 1, 2), (1, 3, 2)))
POOL = BevHeadConfig(kind="pool", channels=16)
ORIGIN = torch.tensor([-16, -16, -16], dtype=torch.int32)


def _assert_unit(features: Tensor) -> None:
    torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))


@pytest.fixture
def voxels() -> tuple[Tensor, Tensor]:
    """Features (V, 5) at coords (V, 4), in part off the grid on every side."""
    coords = random_coords(3, (32, 32, 32), 0.02, seed=0)
    torch.manual_seed(0)
    return torch.randn(len(coords), 5), coords


def _cells(coords: Tensor, edges_m: tuple[float, float, float] = EDGES_M) -> np.ndarray:
    """Flat cell of each voxel's centre by float64 geometry, -1 off the grid or the slab."""
    centre = (coords[:, 1:].numpy().astype(np.float64) + ORIGIN.numpy() + 0.5) * edges_m
    index, inside = GRID.cells(centre[:, :2])
    inside &= (centre[:, 2] >= SLAB_M[0]) & (centre[:, 2] < SLAB_M[1])
    return np.where(inside, coords[:, 0].numpy() * GRID.num_cells + GRID.flat(index), -1)


def test_point_head_gives_unit_length() -> None:
    _assert_unit(PointHead(5)(torch.randn(9, 5)))


def test_segmentation_head_gives_scores_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        scores = SegmentationHead(5, 3)(torch.randn(9, 5))
    assert scores.shape == (9, 3)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(("size", "expected"), [(None, (4, 6)), ((8, 12), (8, 12))])
def test_pixel_head_gives_unit_length_per_pixel(size: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        features = PixelHead(5, output_size=size)(torch.randn(2, 5, 4, 6))
    assert features.shape == (2, 64, *expected)
    assert features.dtype == torch.float32
    _assert_unit(features)


def test_pixel_head_resamples_about_pixel_centres() -> None:
    """A map that grows by 1 per feature cell has the value (u + 0.5) / 4 - 0.5 at pixel u of the fourfold size."""
    head = PixelHead(2, channels=2, output_size=(16, 24))
    nn.init.eye_(head.conv.weight[:, :, 0, 0])
    nn.init.zeros_(head.conv.bias)
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    features = head(torch.cat([ramp, torch.ones_like(ramp)], dim=1))
    value = (features[0, 0] / features[0, 1])[8]
    u = torch.arange(24.0)
    inner = slice(2, -2)  # beyond the outermost feature cells' centres, values are held
    torch.testing.assert_close(value[inner], ((u + 0.5) / 4 - 0.5)[inner], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("edges_m", [EDGES_M, (0.2, 0.3, 0.1), (0.1, 0.2, 0.4)])
def test_pool_head_equals_a_loop(voxels: tuple[Tensor, Tensor], edges_m: tuple[float, float, float]) -> None:
    features, coords = voxels
    head = build_bev_head(POOL, 5, GRID, SLAB_M, edges_m)
    output, cell, count = head(features, coords, ORIGIN)
    numbers = _cells(coords, edges_m)
    assert count.tolist() == [int((numbers == number).sum()) for number in cell.tolist()]
    assert (numbers == -1).any()
    assert sorted(cell.tolist()) == sorted(set(numbers) - {-1})  # each occupied cell, once
    for row, number in zip(output, cell.tolist(), strict=True):
        mean = features[torch.from_numpy(numbers == number)].mean(dim=0)
        torch.testing.assert_close(row, F.normalize(head.linear(mean), dim=0))


def test_conv_head_equals_a_dense_one(voxels: tuple[Tensor, Tensor]) -> None:
    features, coords = voxels
    torch.manual_seed(1)
    head = build_bev_head(CONV, 5, GRID, SLAB_M, EDGES_M).eval()
    assert isinstance(head, ConvBevHead)
    output, cell, count = head(features, coords, ORIGIN)
    assert sorted(cell.tolist()) == sorted(set(_cells(coords)) - {-1})
    assert count.tolist() == [int((_cells(coords) == number).sum()) for number in cell.tolist()]
    low, size = torch.tensor([-8, -9, -2]), (16, 18, 4)  # the grid and slab, counted in voxels
    on_grid = coords.clone()
    on_grid[:, 1:] += ORIGIN - low.int()
    kept = torch.from_numpy(_cells(coords) >= 0)
    volume = to_dense(features[kept], on_grid[kept], 3, size)
    first, last = head.layers
    volume = F.conv3d(volume, first.conv.weight.permute(0, 4, 1, 2, 3), stride=(2, 1, 2))
    occupied = F.max_pool3d(to_dense(torch.ones(int(kept.sum()), 1), on_grid[kept], 3, size), (2, 1, 2))
    norm = first.norm
    volume = F.batch_norm(volume, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu() * occupied
    volume = F.conv3d(volume, last.weight.permute(0, 4, 1, 2, 3), stride=(1, 3, 2))
    assert volume.shape[2:] == (8, 6, 1)
    place = torch.stack([cell // 48, cell // 6 % 8, cell % 6, torch.zeros_like(cell)], dim=1)
    torch.testing.assert_close(output, F.normalize(at(volume, place), dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [POOL, CONV])
def test_bev_heads_learn(voxels: tuple[Tensor, Tensor], config: BevHeadConfig) -> None:
    features, coords = voxels
    features = features.clone().requires_grad_()
    head = build_bev_head(config, 5, GRID, SLAB_M, EDGES_M)
    output = head(features, coords, ORIGIN).features
    _assert_unit(output.detach())
    output[:, 0].sum().backward()
    reached = features.grad.abs().sum(dim=1) > 0
    assert not reached[torch.from_numpy(_cells(coords) < 0)].any()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_bev_head_with_no_voxel_on_the_grid(voxels: tuple[Tensor, Tensor]) -> None:
    features, coords = voxels
    output, cell, _ = build_bev_head(POOL, 5, GRID, SLAB_M, EDGES_M)(features, coords, ORIGIN + 1000)
    assert output.shape == (0, 16)
    assert cell.shape == (0,)


def test_paper_head_fits_the_paper_grid() -> None:
    grid = GridSpec((-51.2, -51.2), (51.2, 51.2), (0.4, 0.4))
    head = build_bev_head(PAPER_BEV_HEAD, 96, grid, (-5.0, 3.0), PAPER_UNET.voxel_edges_m)
    assert head.pillars.per_cell == (4, 4, 80)
    assert head.pillars.cells == (256, 256)


def test_a_voxelnet_has_as_many_cells_in_the_paper_recipe() -> None:
    config = load("paper", student="voxelnet").pretrain
    assert config.bev is not None
    grid, slab = GridSpec((-51.2, -51.2), (51.2, 51.2), (config.bev.cell_m,) * 2), (config.z_min_m, config.z_max_m)
    head = build_bev_head(config.bev.head, 8, grid, slab, config.student.voxel_edges_m)
    assert isinstance(head, ConvBevHead) and head.pillars.per_cell == (8, 8, 80)
    assert head.pillars.cells == (256, 256)
    corners = torch.tensor([[0, 0, 0, 0], [0, 7, 7, 79], [0, 8, 0, 0], [0, 2047, 2047, 79], [0, 9, 9, 80]])
    output, cell, _ = head(torch.rand(5, 8), corners.int(), torch.tensor(config.student.low, dtype=torch.int32))
    assert sorted(cell.tolist()) == [0, 256, 256 * 256 - 1]  # the last voxel lies above the slab
    _assert_unit(output.detach())


def test_strides_that_miss_the_cell_are_refused() -> None:
    wrong = BevHeadConfig(kind="conv", strides=((2, 3, 2),))
    with pytest.raises(ValueError, match=r"\(2, 3, 2\).*\(2, 3, 4\)"):
        build_bev_head(wrong, 5, GRID, SLAB_M, EDGES_M)


def test_a_cell_of_part_of_a_voxel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"-1\.8 m .* 0\.4 m"):
        build_bev_head(SMALL_BEV_HEAD, 5, GRID, SLAB_M, (0.4, 0.4, 0.4))


@pytest.mark.parametrize("tree", [{"kind": "conv"}, {"kind": "pool", "strides": [[2, 2, 4]]}])
def test_strides_belong_to_conv_alone(tree: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="strides"):
        parse(BevHeadConfig, tree)
