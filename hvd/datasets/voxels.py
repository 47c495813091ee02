"""Points -> voxels -> batches, for sparse convolutions. N points, V voxels, B samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORIGIN_STEP = 16
"""A batch's origin is a multiple of this, the largest stride of the networks: how a sample's voxels are grouped on the
way down does not depend on what else is in the batch."""

_LIMIT = 1 << 20  # voxels from the origin: three such coordinates fit one int64


@dataclass(frozen=True)
class Voxels:
    """One voxelised sweep."""

    coords: NDArray[np.int32]  # (V, 3) floor(point / voxel size), ascending, may be negative
    feature: NDArray[np.float32]  # (V, F) mean of its points: intensity, or x, y, z and intensity
    point_voxel: NDArray[np.int64]  # (N,) voxel of each point, -1 for none


@dataclass(frozen=True)
class Batch:
    """Several voxelised sweeps."""

    coords: NDArray[np.int32]  # (V, 4) sample, x, y, z, all >= 0
    origin: NDArray[np.int32]  # (3,) what was subtracted from x, y, z
    feature: NDArray[np.float32]  # (V, F)
    point_voxel: NDArray[np.int64]  # (N,) row of the batch's voxels, -1 for none; samples end to end
    voxel_counts: NDArray[np.int64]  # (B,)
    batch_size: int


def voxelize(points: NDArray[Any], intensity: NDArray[Any], voxel_size: float) -> Voxels:
    """Group points by voxel.

    Args:
        points: (N, 3) metres. A point that is not finite, or further than 2^20 voxels away, is in no voxel.
        intensity: (N,). Nor is a point whose intensity is not finite: it would spoil its voxel's mean.
        voxel_size: edge in metres.
    """
    axes = np.floor(np.ascontiguousarray(points.T, np.float64) / voxel_size)  # (3, N): long rows are much faster
    near = np.abs(axes) < _LIMIT  # false for NaN
    inside = near[0] & near[1] & near[2] & np.isfinite(intensity)
    if not inside.all():
        axes, intensity = axes[:, inside], intensity[inside]
    coords, member = _unique_columns(axes.astype(np.int64))
    count = np.bincount(member, minlength=len(coords))
    total = np.bincount(member, weights=intensity, minlength=len(coords))
    point_voxel = np.full(len(points), -1, dtype=np.int64)
    point_voxel[inside] = member
    return Voxels(coords, (total / count).astype(np.float32)[:, None], point_voxel)


def _unique_columns(cells: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distinct columns of (3, N), ascending, as rows (V, 3); and for each input column its place among them (N,).

    One sort of packed keys: `np.unique` on the same keys takes several times as long.
    """
    if not cells.shape[1]:
        return np.empty((0, 3), dtype=np.int32), np.empty(0, dtype=np.int64)
    x, y, z = cells - cells.min(axis=1, keepdims=True)
    key = (x * (y.max() + 1) + y) * (z.max() + 1) + z
    order = np.argsort(key)
    ordered = key[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    member = np.empty(len(key), dtype=np.int64)
    member[order] = np.cumsum(is_first) - 1
    return cells[:, order[is_first]].T.astype(np.int32, order="C"), member


def collate(samples: Sequence[Voxels]) -> Batch:
    """Join samples to one batch; coordinates are shifted to be non-negative by a multiple of `ORIGIN_STEP`."""
    counts = np.array([len(sample.coords) for sample in samples], dtype=np.int64)
    stacked = np.concatenate([sample.coords for sample in samples])
    lowest = stacked.min(axis=0) if len(stacked) else np.zeros(3, dtype=np.int32)
    origin = lowest // ORIGIN_STEP * ORIGIN_STEP
    number = np.repeat(np.arange(len(samples), dtype=np.int32), counts)
    first = np.cumsum(counts) - counts
    return Batch(
        coords=np.concatenate([number[:, None], stacked - origin], axis=1),
        origin=origin,
        feature=np.concatenate([sample.feature for sample in samples]),
        point_voxel=np.concatenate(
            [np.where(s.point_voxel < 0, -1, s.point_voxel + start) for s, start in zip(samples, first, strict=True)]
        ),
        voxel_counts=counts,
        batch_size=len(samples),
    )
