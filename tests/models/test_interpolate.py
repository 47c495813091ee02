"""Trilinear reading against torch's own on dense volumes, a loop, and finite differences."""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hvd.models.interpolate import trilinear
from tests.models.dense import random_coords, to_dense

SAMPLES, SHAPE = 2, (5, 4, 3)


def _places(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    span = torch.tensor(SHAPE) - 1
    place = torch.rand(count, 3, generator=generator) * span
    return torch.randint(SAMPLES, (count,), generator=generator, dtype=torch.int32), place


def test_with_every_voxel_there_it_equals_grid_sample() -> None:
    coords = random_coords(SAMPLES, SHAPE, 2.0, seed=0)
    feature = torch.randn(len(coords), 6)
    batch, place = _places(50, seed=1)
    volume = to_dense(feature, coords, SAMPLES, SHAPE)  # (B, C, X, Y, Z)
    scaled = (place / (torch.tensor(SHAPE) - 1) * 2 - 1).flip(1)  # torch wants the last axis first
    expected = torch.stack(
        [
            F.grid_sample(volume[b : b + 1], p.view(1, 1, 1, 1, 3), align_corners=True).flatten()
            for b, p in zip(batch.tolist(), scaled, strict=True)
        ]
    )
    torch.testing.assert_close(trilinear(feature, coords, batch, place), expected, rtol=1e-4, atol=1e-5)


def test_absent_voxels_leave_their_weight_to_the_others() -> None:
    coords = random_coords(SAMPLES, SHAPE, 0.3, seed=2)
    feature = torch.randn(len(coords), 2)
    rows = {tuple(c): row for row, c in enumerate(coords.tolist())}
    batch, place = _places(60, seed=3)
    output = trilinear(feature, coords, batch, place)
    alone = 0
    for b, p, read in zip(batch.tolist(), place.tolist(), output, strict=True):
        total, weights = torch.zeros(2), 0.0
        for corner in itertools.product((0, 1), repeat=3):
            voxel = tuple(math.floor(v) + c for v, c in zip(p, corner, strict=True))
            weight = math.prod(1 - abs(v - q) for v, q in zip(p, voxel, strict=True))
            if (b, *voxel) in rows:
                total, weights = total + weight * feature[rows[(b, *voxel)]], weights + weight
        alone += weights == 0
        torch.testing.assert_close(read, total / weights if weights else total, rtol=1e-4, atol=1e-5)
    assert 0 < alone < 30


def test_a_voxel_centre_reads_that_voxel() -> None:
    coords = random_coords(SAMPLES, SHAPE, 0.4, seed=4)
    feature = torch.randn(len(coords), 3)
    torch.testing.assert_close(trilinear(feature, coords, coords[:, 0], coords[:, 1:].float()), feature)


def test_gradient_equals_finite_differences() -> None:
    coords = random_coords(SAMPLES, SHAPE, 0.4, seed=5)
    batch, place = _places(10, seed=6)
    feature = torch.randn(len(coords), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: trilinear(f, coords, batch, place.double()), (feature,))
