"""Heads on top of the student and the teacher: features of unit length to compare, or class scores.

Letters: V voxels, C channels, I images, h x w pixels, M occupied ground cells, X x Y the ground grid.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvd.geometry.grid import GridSpec
from hvd.losses.contrastive import pool_points
from hvd.models.config import BevHeadConfig
from hvd.models.sparse import DownConv, sparse_tensor
from hvd.models.unet import ConvNorm

_NORM_MOMENTUM = 0.05  # as in the student


class PointHead(nn.Module):
    """Voxel features (V, in_channels) -> (V, channels) of unit length."""

    def __init__(self, in_channels: int, channels: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        return _unit(self.linear(features))


class PixelHead(nn.Module):
    """Feature maps (I, in_channels, h, w) -> (I, channels, *output_size) of unit length per pixel.

    Args:
        output_size: (height, width) to resample to, or None to keep the size of the feature map.
    """

    def __init__(self, in_channels: int, channels: int = 64, output_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1)
        self.output_size = output_size

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv(features).float()
        if self.output_size is not None:
            # Half-pixel centres: cell j of stride s lies at (j + 0.5) s - 0.5, as everywhere in hvd.geometry.
            x = F.interpolate(x, self.output_size, mode="bilinear", align_corners=False)
        return _unit(x)


class SegmentationHead(nn.Module):
    """Voxel features (V, in_channels) -> class scores (V, classes)."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.linear(features)
        return scores.float()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=1)


@dataclass(frozen=True)
class Pillars:
    """The ground grid counted in voxels: which voxels lie over which cell."""

    low: tuple[int, int, int]  # voxel index of the grid's lowest corner
    size: tuple[int, int, int]  # voxels along x, y, z
    per_cell: tuple[int, int, int]  # voxels of one cell along x, y; z: the whole slab

    @classmethod
    def of(cls, grid: GridSpec, slab_m: tuple[float, float], voxel_edges_m: tuple[float, float, float]) -> "Pillars":
        """Count `grid` (x, y in metres) and the slab (lowest and highest z in metres) in voxels with edges (x, y, z).

        Raises:
            ValueError: a border or a cell is no whole number of voxels.
        """
        low = (*grid.minimum, slab_m[0])
        high = (*grid.maximum, slab_m[1])
        cell = (*grid.cell, slab_m[1] - slab_m[0])
        axes = zip(zip(low, high, cell, strict=True), voxel_edges_m, strict=True)
        x, y, z = ([_whole(metres, edge_m) for metres in lengths] for lengths, edge_m in axes)
        return cls(
            low=(x[0], y[0], z[0]),
            size=(x[1] - x[0], y[1] - y[0], z[1] - z[0]),
            per_cell=(x[2], y[2], z[2]),
        )

    @property
    def cells(self) -> tuple[int, int]:
        """(X, Y)."""
        return self.size[0] // self.per_cell[0], self.size[1] // self.per_cell[1]

    def locate(self, coords: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Voxels on the grid.

        Args:
            coords: (V, 4) int32 [batch, x, y, z] >= 0.
            origin: (3,) int32 that was subtracted from the voxel indices to make `coords`.

        Returns:
            rows (n,) int64 of `coords` that lie on the grid; their coordinates (n, 4) int32 counted from its corner.
        """
        shift = origin - torch.tensor(self.low, dtype=origin.dtype, device=origin.device)
        on_grid = coords[:, 1:] + shift.to(coords.device)
        inside = (on_grid >= 0) & (on_grid < torch.tensor(self.size, device=coords.device))
        rows = inside.all(dim=1).nonzero()[:, 0]
        return rows, torch.cat([coords[rows, :1], on_grid[rows].to(coords.dtype)], dim=1)

    def flat(self, batch: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Cell indices flat over (batch, X, Y): int64."""
        return (batch.long() * self.cells[0] + x.long()) * self.cells[1] + y.long()

    def cell_of(self, on_grid: Tensor) -> Tensor:
        """The cell (n,) int64, flat over (batch, X, Y), of voxels as `locate` gives them (n, 4)."""
        x, y = (on_grid[:, 1 + axis] // self.per_cell[axis] for axis in range(2))
        return self.flat(on_grid[:, 0], x, y)


def _whole(metres: float, edge_m: float) -> int:
    count = round(metres / edge_m)
    if abs(count * edge_m - metres) > 1e-6 * max(1.0, abs(metres)):
        raise ValueError(f"{metres} m is no whole number of voxels of {edge_m} m")
    return count


class Collapsed(NamedTuple):
    """A batch of voxels collapsed on the ground grid, each occupied cell once."""

    features: Tensor  # (N, channels) of unit length
    cell: Tensor  # (N,) int64, flat over (batch, X, Y)
    voxels: Tensor  # (N,) int64, how many were collapsed


class PoolBevHead(nn.Module):
    """Mean of each pillar's voxels, then a linear layer."""

    def __init__(self, in_channels: int, channels: int, pillars: Pillars) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels)
        self.pillars = pillars

    def forward(self, features: Tensor, coords: Tensor, origin: Tensor) -> Collapsed:
        """Features (V, in_channels) at coords (V, 4), shifted by origin (3,) -> the occupied cells.

        Voxels off the grid take no part.
        """
        rows, on_grid = self.pillars.locate(coords, origin)
        cell, index = torch.unique(self.pillars.cell_of(on_grid), return_inverse=True)
        pillar = torch.full((len(coords),), -1, device=index.device).index_put((rows,), index)
        means, count = pool_points(features.float(), pillar, len(cell))
        return Collapsed(_unit(self.linear(means)), cell, count)


class ConvBevHead(nn.Module):
    """Strided sparse convolutions, kernel = stride, down to one cell per pillar (the paper's head)."""

    def __init__(
        self, in_channels: int, channels: int, pillars: Pillars, strides: tuple[tuple[int, int, int], ...]
    ) -> None:
        super().__init__()
        total = tuple(int(n) for n in torch.tensor(strides).prod(dim=0))
        if total != pillars.per_cell:
            raise ValueError(f"BEV head strides multiply to {total}, but a cell has {pillars.per_cell} voxels")
        self.pillars = pillars
        widths = [in_channels, *[channels] * len(strides)]
        hidden = [
            ConvNorm(DownConv(widths[i], channels, f"bev{i}", stride), _NORM_MOMENTUM)
            for i, stride in enumerate(strides[:-1])
        ]
        self.layers = nn.Sequential(*hidden, DownConv(widths[-2], channels, "bev", strides[-1]))

    def forward(self, features: Tensor, coords: Tensor, origin: Tensor) -> Collapsed:
        """As PoolBevHead.forward; the order of the cells is another."""
        with torch.autocast(features.device.type, enabled=False):
            rows, on_grid = self.pillars.locate(coords, origin)
            batch_size = int(coords[:, 0].max()) + 1
            x = self.layers(sparse_tensor(features[rows].float(), on_grid, batch_size, self.pillars.size))
            batch, cell_x, cell_y, _ = x.indices.unbind(1)
            cell = self.pillars.flat(batch, cell_x, cell_y)
            return Collapsed(_unit(x.features), cell, torch.bincount(self.pillars.cell_of(on_grid))[cell])


def build_bev_head(
    config: BevHeadConfig,
    in_channels: int,
    grid: GridSpec,
    slab_m: tuple[float, float],
    voxel_edges_m: tuple[float, float, float],
) -> PoolBevHead | ConvBevHead:
    """The head that `config` asks for, over `grid` (x, y in metres) and one slab of z (lowest, highest, in metres).

    Raises:
        ValueError: cells or slab are no whole numbers of voxels, or not what the config's strides multiply to.
    """
    pillars = Pillars.of(grid, slab_m, voxel_edges_m)
    if config.strides is None:
        return PoolBevHead(in_channels, config.channels, pillars)
    return ConvBevHead(in_channels, config.channels, pillars, config.strides)
