"""Voxels against np.unique, by hand, and in batches."""

import numpy as np
import pytest

from hvd.datasets.voxels import ORIGIN_STEP, collate, voxelize


def test_by_hand() -> None:
    points = np.array([[0.05, 0.0, 0.0], [-0.05, 0.0, 0.0], [0.09, 0.01, 0.05], [np.nan, 0, 0], [0, np.inf, 0]])
    voxels = voxelize(points, np.array([0.2, 0.9, 0.4, 0.5, 0.5]), 0.1)
    assert voxels.coords.tolist() == [[-1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(voxels.feature, [[0.9], [0.3]], rtol=1e-6)
    assert voxels.point_voxel.tolist() == [1, 0, 1, -1, -1]
    assert (voxels.coords.dtype, voxels.feature.dtype, voxels.point_voxel.dtype) == (np.int32, np.float32, np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("voxel_size", [0.1, 0.2, 3.0])
def test_equals_unique(dtype: type, voxel_size: float) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 10, (5000, 3)).astype(dtype)
    intensity = rng.uniform(size=5000).astype(np.float32)
    voxels = voxelize(points, intensity, voxel_size)
    cells = np.floor(points.astype(np.float64) / voxel_size)
    coords, member, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(voxels.coords, coords)
    np.testing.assert_array_equal(voxels.point_voxel, member.ravel())
    mean = [intensity[member.ravel() == i].mean() for i in range(50)]
    np.testing.assert_allclose(voxels.feature[:50, 0], mean, rtol=1e-6)
    assert count.sum() == 5000


def test_an_outlier_does_not_overflow() -> None:
    """Keys of the widest range that is kept, and points beyond it."""
    far = 0.1 * ((1 << 20) - 1)
    points = np.array([[far, far, far], [-far, -far, -far], [1e30, 0, 0], [0, -1e9, 0], [0, 0, 0]])
    voxels = voxelize(points, np.ones(5), 0.1)
    assert voxels.point_voxel.tolist() == [2, 0, -1, -1, 1]
    np.testing.assert_allclose(voxels.coords * 0.1, [[-far] * 3, [0] * 3, [far] * 3], atol=0.11)


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.full((4, 3), np.nan)])
def test_no_points(points: np.ndarray) -> None:
    voxels = voxelize(points, np.ones(len(points)), 0.1)
    assert voxels.coords.shape == (0, 3)
    assert voxels.feature.shape == (0, 1)
    assert (voxels.point_voxel == -1).all()
    assert collate([voxels]).coords.shape == (0, 4)


def test_collate() -> None:
    rng = np.random.default_rng(0)
    sweeps = [rng.normal(0, spread, (count, 3)) for spread, count in ((5, 300), (20, 200), (1, 0), (9, 150))]
    sweeps[1][3] = np.nan
    samples = [voxelize(points, rng.uniform(size=len(points)), 0.5) for points in sweeps]
    batch = collate(samples)
    assert batch.batch_size == 4
    assert batch.voxel_counts.tolist() == [len(sample.coords) for sample in samples]
    assert batch.coords.dtype == np.int32
    assert batch.coords.min() == 0 or batch.coords[:, 1:].min() < ORIGIN_STEP
    assert (batch.coords >= 0).all()
    assert (batch.origin % ORIGIN_STEP == 0).all()
    points = np.concatenate(sweeps)
    known = batch.point_voxel >= 0
    assert (~known).sum() == 1
    cells = batch.coords[batch.point_voxel[known], 1:] + batch.origin
    np.testing.assert_array_equal(cells, np.floor(points[known] / 0.5))
    number = np.repeat(np.arange(4), [len(points) for points in sweeps])
    np.testing.assert_array_equal(batch.coords[batch.point_voxel[known], 0], number[known])
    np.testing.assert_array_equal(batch.feature, np.concatenate([sample.feature for sample in samples]))


def test_a_sample_falls_into_the_same_pyramid_in_any_batch() -> None:
    """Groups of 16^3 voxels, the coarsest that a network makes, do not depend on the company."""
    rng = np.random.default_rng(1)
    sample, other = (voxelize(rng.normal(0, 30, (500, 3)), np.ones(500), 0.3) for _ in range(2))
    alone, together = collate([sample]), collate([other, sample])
    mine = together.coords[together.coords[:, 0] == 1, 1:] + together.origin
    groups = [(coords // ORIGIN_STEP) for coords in (alone.coords[:, 1:] + alone.origin, mine)]
    np.testing.assert_array_equal(groups[0], groups[1])
    assert (np.diff([alone.origin, together.origin], axis=0) % ORIGIN_STEP == 0).all()
