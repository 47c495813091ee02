"""What each kind of student needs of the points: voxels of its own make, and batches of them.

N points, V voxels, F features of a voxel, B samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.range_voxels import collate_range, voxelize_range
from hvd.datasets.voxels import Batch, Voxels, collate, voxelize
from hvd.geometry.grid import GridSpec
from hvd.models.config import UNetConfig
from hvd.models.detector_config import VoxelNetConfig


class Voxelizer(Protocol):
    """Points in, what a student takes out."""

    def voxels(self, points: NDArray[Any], intensity: NDArray[Any]) -> Voxels:
        """Points (N, 3) in metres, in the frame that the student is to see, and intensity (N,) -> voxels of a sweep."""

    def collate(self, samples: Sequence[Voxels]) -> Batch:
        """B sweeps joined."""


@dataclass(frozen=True)
class MovingVoxels:
    """For a U-Net: cubes wherever there are points, the batch's origin beneath them; feature (V, 1) mean intensity."""

    voxel_size_m: float

    def voxels(self, points: NDArray[Any], intensity: NDArray[Any]) -> Voxels:
        """As Voxelizer says; only points that are not finite are in no voxel."""
        return voxelize(points, intensity, self.voxel_size_m)

    def collate(self, samples: Sequence[Voxels]) -> Batch:
        """As Voxelizer says."""
        return collate(samples)


@dataclass(frozen=True)
class RangeVoxels:
    """For a VoxelNet: the voxels of its range; feature (V, 4) mean x, y, z (metres, the frame seen) and intensity.

    Args:
        low: index of the grid's lowest voxel, counted from the LiDAR: the origin of every batch.
    """

    grid: GridSpec
    low: tuple[int, int, int]

    def voxels(self, points: NDArray[Any], intensity: NDArray[Any]) -> Voxels:
        """As Voxelizer says; points outside the range are in no voxel."""
        return voxelize_range(np.column_stack([points.astype(np.float64), intensity]), self.grid)

    def collate(self, samples: Sequence[Voxels]) -> Batch:
        """As Voxelizer says."""
        return collate_range(samples, self.low)


def build_voxelizer(student: UNetConfig | VoxelNetConfig) -> Voxelizer:
    """The voxels that `student` takes."""
    if isinstance(student, VoxelNetConfig):
        return RangeVoxels(student.grid, student.low)
    return MovingVoxels(student.voxel_size_m)
