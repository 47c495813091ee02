"""Points -> voxels of a fixed range, with the mean of the points in each: what a voxel detector takes.

N points, V voxels, F features of a point, B samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.voxels import Batch, Voxels, collate, voxelize
from hvd.geometry.grid import GridSpec


def voxelize_range(points: NDArray[Any], grid: GridSpec) -> Voxels:
    """Group the points inside `grid` by its voxels.

    Args:
        points: (N, F) x, y, z in metres, then further features. Points outside, or with a feature that is not finite,
            are in no voxel.
        grid: three axes.

    Returns:
        voxels with coords counted from the grid's lowest corner, and `feature` (V, F), the means of their points.
    """
    cell, inside = grid.cells(points[:, :3].astype(np.float64))
    inside &= np.isfinite(points).all(axis=1)
    place = np.where(inside[:, None], cell + 0.5, np.nan)
    voxels = voxelize(place, np.zeros(len(points), np.float32), 1.0)
    member = voxels.point_voxel[inside]
    count = np.bincount(member, minlength=len(voxels.coords))
    totals = [np.bincount(member, column, len(voxels.coords)) for column in points[inside].T]
    return replace(voxels, feature=(np.stack(totals, axis=1) / count[:, None]).astype(np.float32))


def collate_range(samples: Sequence[Voxels], low: tuple[int, int, int]) -> Batch:
    """Join samples of `voxelize_range`; their coordinates stay as they are.

    Args:
        samples: B sweeps.
        low: index of the grid's lowest voxel counted from the LiDAR, which becomes the batch's `origin`.
    """
    batch = collate(samples)
    coords = batch.coords.copy()
    coords[:, 1:] += batch.origin
    return replace(batch, coords=coords, origin=np.array(low, dtype=np.int32))
