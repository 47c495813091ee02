"""SECOND's sparse 3-D encoder (Yan et al., Sensors 2018), laid out as the VoxelBackBone8x that detectors share.

Letters: V voxels, U voxels of a level, C channels, B samples, X x Y cells of the bird's-eye-view map.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hvd.models.detector_config import VoxelNetConfig
from hvd.models.interpolate import trilinear
from hvd.models.sparse import SparseTensor, StridedConv, SubmanifoldConv, sparse_tensor
from hvd.models.unet import ConvNorm

IN_CHANNELS = 4  # mean x, y, z (metres) and intensity of a voxel's points
_EPS = 1e-3  # of batch norm, as in the published networks


class Lattice(NamedTuple):
    """Where a level's voxels lie, counted in input voxels, (x, y, z): voxel o has its centre at first + o stride.

    A 3-wide, padded, strided convolution centres output o on input 2 o; without padding, on input 2 o + 1.
    """

    stride: tuple[int, int, int]
    first: tuple[int, int, int]


LATTICES = {
    "conv1": Lattice((1, 1, 1), (0, 0, 0)),
    "conv2": Lattice((2, 2, 2), (0, 0, 0)),
    "conv3": Lattice((4, 4, 4), (0, 0, 0)),
    "conv4": Lattice((8, 8, 8), (0, 0, 4)),
    "conv_out": Lattice((8, 8, 16), (0, 0, 12)),
}


@dataclass(frozen=True)
class Encoded:
    """All levels of one forward pass, by name, from fine to coarse."""

    levels: dict[str, SparseTensor]

    def bev(self) -> Tensor:
        """The bird's-eye-view map (B, C * slices, X, Y): the last level's voxels above each cell, end to end."""
        last = self.levels["conv_out"]
        x, y, z = last.spatial_shape
        empty: Tensor = last.features.new_zeros(last.batch_size, x, y, z, last.features.shape[1])
        volume = empty.index_put(last.indices.long().unbind(1), last.features)
        return volume.permute(0, 4, 3, 1, 2).flatten(1, 2)

    def at_voxels(self, coords: Tensor, read: tuple[str, ...]) -> Tensor:
        """Features of the levels `read`, end to end, at the centres of input voxels (V, 4) -> (V, sum of widths)."""
        return self.at(coords[:, 0], coords[:, 1:].float(), read)

    def at(self, batch: Tensor, place: Tensor, read: tuple[str, ...]) -> Tensor:
        """As `at_voxels`, at any place.

        Args:
            batch: (V,) int32 sample of each.
            place: (V, 3) float32 in input voxels, whose centres have whole numbers: the place of a point p (metres) is
                (p - range_min_m) / voxel_size_m - 0.5.
            read: names of levels.
        """
        return torch.cat([self._read(name, batch, place) for name in read], dim=1)

    def _read(self, name: str, batch: Tensor, place: Tensor) -> Tensor:
        level, lattice = self.levels[name], LATTICES[name]
        within = (place - place.new_tensor(lattice.first)) / place.new_tensor(lattice.stride)
        return trilinear(level.features, level.indices, batch, within)


class VoxelNet(nn.Module):
    """Encoder of a voxelised sweep, of strides 1, 2, 4, 8.

    Called, it is a student like SparseUNet: features at the input voxels, which pre-training compares with pixels, and
    collapses on the ground grid for the bird's-eye view. A detector calls `encode` and takes the levels' `bev()`.

    SLidR reads its bird's-eye-view map bilinearly, so that all points of a pillar share one feature. Here every level
    named in the config is read trilinearly: a wheel and a roof differ, and each layer learns.

    Attributes:
        out_channels: width of the features at the input voxels.
    """

    def __init__(self, config: VoxelNetConfig) -> None:
        super().__init__()
        self.config = config
        first, second, third, fourth = config.stages
        momentum = config.norm_momentum
        self.conv_input = _same(IN_CHANNELS, config.stem, "subm1", momentum)
        self.conv1 = nn.Sequential(_same(config.stem, first, "subm1", momentum))
        self.conv2 = _stage(first, second, "2", (1, 1, 1), momentum)
        self.conv3 = _stage(second, third, "3", (1, 1, 1), momentum)
        self.conv4 = _stage(third, fourth, "4", (1, 1, 0), momentum)
        last = StridedConv(fourth, config.out_channels, "down_out", (1, 1, 3), (1, 1, 2), (0, 0, 0))
        self.conv_out = ConvNorm(last, momentum, _EPS)
        self.out_channels: int = config.feature_channels

    def forward(self, feature: Tensor, coords: Tensor, batch_size: int) -> Tensor:
        """Features (V, 4) at coords (V, 4), as `encode` takes them -> (V, out_channels) at the same voxels."""
        if not len(coords):
            return feature.new_zeros(0, self.out_channels)
        with torch.autocast(feature.device.type, enabled=False):
            return self.encode(feature, coords, batch_size).at_voxels(coords, self.config.read)

    def encode(self, feature: Tensor, coords: Tensor, batch_size: int) -> Encoded:
        """All levels.

        Args:
            feature: (V, 4) mean x, y, z (metres, LiDAR frame) and intensity (0..1) of each voxel's points.
            coords: (V, 4) int32 [batch, x, y, z], counted from the lowest corner of the config's range.
            batch_size: number of samples B.

        Raises:
            ValueError: a voxel lies outside the range.
        """
        _check_inside(coords, self.config.grid.shape)
        levels = {}
        with torch.autocast(feature.device.type, enabled=False):
            x = self.conv_input(sparse_tensor(feature.float(), coords, batch_size, self.config.shape))
            for name in LATTICES:
                x = levels[name] = getattr(self, name)(x)
        return Encoded(levels)


def _check_inside(coords: Tensor, shape: tuple[int, ...]) -> None:
    low, high = coords[:, 1:].aminmax(dim=0)
    if bool((low < 0).any()) or bool((high >= high.new_tensor(shape)).any()):
        raise ValueError(f"voxels from {low.tolist()} to {high.tolist()} are not all inside the range's {shape}")


def _stage(in_channels: int, channels: int, key: str, padding: tuple[int, int, int], momentum: float) -> nn.Sequential:
    down = StridedConv(in_channels, channels, f"down_{key}", (3, 3, 3), (2, 2, 2), padding)
    same = (_same(channels, channels, f"subm{key}", momentum) for _ in range(2))
    return nn.Sequential(ConvNorm(down, momentum, _EPS), *same)


def _same(in_channels: int, channels: int, key: str, momentum: float) -> ConvNorm:
    return ConvNorm(SubmanifoldConv(in_channels, channels, key), momentum, _EPS)
