"""Voxels of a fixed range against a loop over points."""

import math

import numpy as np
import pytest

from hvd.datasets.range_voxels import collate_range, voxelize_range
from hvd.geometry.grid import GridSpec

GRID = GridSpec((0.0, -0.8, -0.6), (1.6, 0.8, 0.6), (0.2, 0.2, 0.3))
LOW = (0, -4, -2)


def _points(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform((-0.3, -1, -0.8, 0), (1.9, 1, 0.8, 1), (200, 4)).astype(np.float32)
    points[3, 0], points[5, 3], points[7, 2] = np.nan, np.inf, -np.inf
    return points


def test_means_and_members_equal_a_loop() -> None:
    points = _points(0)
    voxels = voxelize_range(points, GRID)
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, point in enumerate(points.astype(np.float64)):
        if not np.isfinite(point).all():
            continue
        cell = tuple(math.floor((v - low) / size) for v, low, size in zip(point, GRID.minimum, GRID.cell, strict=False))
        if all(0 <= c < n for c, n in zip(cell, GRID.shape, strict=True)):
            groups.setdefault(cell, []).append(row)
    assert voxels.coords.tolist() == [list(cell) for cell in sorted(groups)]
    for number, cell in enumerate(sorted(groups)):
        assert np.flatnonzero(voxels.point_voxel == number).tolist() == groups[cell]
        assert voxels.feature[number] == pytest.approx(points[groups[cell]].mean(axis=0), abs=1e-6)
    assert (voxels.point_voxel == -1).sum() == 200 - sum(map(len, groups.values())) > 3


def test_a_batch_keeps_coordinates_and_names_its_origin() -> None:
    one, other = voxelize_range(_points(1)[:100], GRID), voxelize_range(_points(2), GRID)
    batch = collate_range([one, other], LOW)
    assert batch.origin.tolist() == list(LOW)
    assert np.array_equal(batch.coords[:, 1:], np.concatenate([one.coords, other.coords]))
    assert np.array_equal(np.bincount(batch.coords[:, 0]), [len(one.coords), len(other.coords)])
    inside = other.point_voxel >= 0
    assert np.array_equal(batch.point_voxel[100:][inside], other.point_voxel[inside] + len(one.coords))
    centre = (batch.coords[:, 1:] + batch.origin + 0.5) * GRID.cell  # counted from the LiDAR
    assert (np.abs(centre - batch.feature[:, :3]) <= np.array(GRID.cell) / 2 + 1e-6).all()


def test_no_point_in_range_gives_no_voxel() -> None:
    voxels = voxelize_range(np.full((4, 4), 99, np.float32), GRID)
    assert voxels.coords.shape == (0, 3) and voxels.feature.shape == (0, 4)
    assert voxels.point_voxel.tolist() == [-1] * 4
