"""What fixes a 3-D detector's shape (no torch and no numpy here: these configs enter artifact keys).

Lengths in metres, in the LiDAR frame; axes (x, y, z).
"""

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hvd.config import Config
from hvd.geometry.cells import whole_cells

if TYPE_CHECKING:
    from hvd.geometry.grid import GridSpec

TOTAL_STRIDE = 8  # of the encoder along x and y
Z_STRIDE = 16  # along z: its last layer halves z once more

Level = Literal["conv1", "conv2", "conv3", "conv4", "conv_out"]


class VoxelNetConfig(Config):
    """SECOND's sparse encoder: the range it sees, its voxels and its widths."""

    kind: ClassVar[Literal["voxelnet"]] = "voxelnet"
    title: ClassVar[str] = "VoxelNet"

    voxel_size_m: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    range_min_m: tuple[float, float, float]
    range_max_m: tuple[float, float, float]
    stem: PositiveInt = 16  # channels of the first convolution
    stages: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64, 64)  # at strides 1, 2, 4, 8
    out_channels: PositiveInt = 128  # of each voxel of the bird's-eye-view map
    norm_momentum: float = Field(default=0.01, gt=0, le=1)  # share of the new batch in the running statistics
    # What pre-training reads at the voxels: all that is strided. The first stage sees 5 x 5 x 5 voxels at most, and
    # has little of the encoder to teach.
    read: tuple[Level, ...] = Field(default=("conv2", "conv3", "conv4", "conv_out"), min_length=1)

    @model_validator(mode="after")
    def _range_is_whole_voxels(self) -> Self:
        x, y, z = self.counts
        if x % TOTAL_STRIDE or y % TOTAL_STRIDE:
            raise ValueError(f"the range is {x} x {y} voxels along x and y: not multiples of {TOTAL_STRIDE}")
        if z < Z_STRIDE or z % Z_STRIDE != TOTAL_STRIDE:
            raise ValueError(f"the range is {z} voxels high: not 24, 40, 56, ..., so the top would be cut off")
        for low, size in zip(self.range_min_m, self.voxel_size_m, strict=True):
            if abs(round(low / size) * size - low) > 1e-6 * max(1.0, abs(low)):
                raise ValueError(f"the range begins at {low} m, which is no whole number of voxels of {size} m")
        if len(set(self.read)) != len(self.read):
            raise ValueError("a level is read twice")
        return self

    @property
    def grid(self) -> "GridSpec":
        """The voxels."""
        from hvd.geometry.grid import GridSpec

        return GridSpec(self.range_min_m, self.range_max_m, self.voxel_size_m)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Voxels of the range along x, y, z.

        Raises:
            ValueError: an edge of the range is no whole, positive number of voxels.
        """
        x, y, z = map(whole_cells, self.range_min_m, self.range_max_m, self.voxel_size_m)
        return x, y, z

    @property
    def low(self) -> tuple[int, int, int]:
        """Index of the range's lowest voxel, counted from the LiDAR: what a batch's `origin` is."""
        x, y, z = (round(low / size) for low, size in zip(self.range_min_m, self.voxel_size_m, strict=True))
        return x, y, z

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels that the convolutions run over: one empty layer more along z, as in OpenPCDet's networks."""
        x, y, z = self.counts
        return x, y, z + 1

    def covers(self, low_m: tuple[float, ...], high_m: tuple[float, ...]) -> bool:
        """Whether the range holds all from `low_m` to `high_m`, each (x, y, z)."""
        below = all(edge <= low for edge, low in zip(self.range_min_m, low_m, strict=True))
        return below and all(edge >= high for edge, high in zip(self.range_max_m, high_m, strict=True))

    def over(self, low_m: tuple[float, float, float], high_m: tuple[float, float, float]) -> "VoxelNetConfig":
        """The same network over another range: `low_m` to `high_m`, with the least room more, at its far ends, that
        whole voxels and the strides need.

        Raises:
            UsageError: `low_m` is no whole number of voxels.
        """
        multiples = ((TOTAL_STRIDE, 0), (TOTAL_STRIDE, 0), (Z_STRIDE, TOTAL_STRIDE))
        far = []
        for low, high, size, (step, rest) in zip(low_m, high_m, self.voxel_size_m, multiples, strict=True):
            count = math.ceil((high - low) / size - 1e-6)
            far.append(round(low + (count + (rest - count) % step) * size, 9))
        return self.with_(range_min_m=low_m, range_max_m=tuple(far))

    @property
    def bev_shape(self) -> tuple[int, int]:
        """Cells (X, Y) of the bird's-eye-view map."""
        x, y, _ = self.counts
        return x // TOTAL_STRIDE, y // TOTAL_STRIDE

    @property
    def bev_channels(self) -> int:
        """Channels of the bird's-eye-view map: those of the voxels above a cell, end to end."""
        return self.out_channels * (self.counts[2] // Z_STRIDE)

    @property
    def voxel_edges_m(self) -> tuple[float, float, float]:
        """Edges of a voxel along x, y, z."""
        return self.voxel_size_m

    @property
    def feature_channels(self) -> int:
        """Width of the features at the input voxels: those of the levels read, end to end."""
        levels: tuple[Level, ...] = get_args(Level)
        widths = dict(zip(levels, (*self.stages, self.out_channels), strict=True))
        return sum(widths[name] for name in self.read)


class BevBackboneConfig(Config):
    """SECOND's 2-D network: blocks at falling resolution, each brought back to one resolution, end to end."""

    layers: tuple[PositiveInt, ...] = (5, 5)  # convolutions of each block, after its first
    strides: tuple[PositiveInt, ...] = (1, 2)  # of each block's first convolution
    channels: tuple[PositiveInt, ...] = (128, 256)
    upsample: tuple[PositiveInt, ...] = (1, 2)  # back from each block; more than its stride: finer than the map
    up_channels: tuple[PositiveInt, ...] = (256, 256)
    norm_momentum: float = Field(default=0.01, gt=0, le=1)  # share of the new batch in the running statistics

    @model_validator(mode="after")
    def _blocks_meet(self) -> Self:
        lists = (self.layers, self.strides, self.channels, self.upsample, self.up_channels)
        if len({len(values) for values in lists}) != 1 or not self.layers:
            raise ValueError("layers, strides, channels, upsample and up_channels must be of one length, 1 or more")
        refinements = {up / stride for up, stride in zip(self.upsample, self.total_strides, strict=True)}
        if len(refinements) != 1 or self.upsample[0] % self.total_strides[0]:
            raise ValueError("upsample must bring every block to one resolution, that of the map or a multiple")
        return self

    @property
    def total_strides(self) -> tuple[int, ...]:
        """Stride of each block, counted from the input map."""
        total, out = 1, []
        for stride in self.strides:
            total *= stride
            out.append(total)
        return tuple(out)

    @property
    def refinement(self) -> int:
        """Output cells along one edge of an input cell."""
        return self.upsample[0] // self.total_strides[0]

    @property
    def out_channels(self) -> int:
        """Width of the output."""
        return sum(self.up_channels)


class CentreHeadConfig(Config):
    """A head that finds objects by their centres (CenterPoint)."""

    classes: tuple[str, ...] = Field(default=("Car", "Pedestrian", "Cyclist"), min_length=1)
    shared_channels: PositiveInt = 64
    channels: PositiveInt = 64  # of each branch's hidden layer
    norm_momentum: float = Field(default=0.01, gt=0, le=1)  # share of the new batch in the running statistics


class DetectorConfig(Config):
    """Encoder, bird's-eye-view network and head."""

    voxelnet: VoxelNetConfig
    bev: BevBackboneConfig = BevBackboneConfig()
    head: CentreHeadConfig = CentreHeadConfig()

    @model_validator(mode="after")
    def _map_is_whole_blocks(self) -> Self:
        x, y = self.voxelnet.bev_shape
        total = self.bev.total_strides[-1]
        if x % total or y % total:
            raise ValueError(f"the map is {x} x {y} cells: not multiples of bev's total stride {total}")
        return self

    @property
    def grid(self) -> "GridSpec":
        """The head's cells on the ground."""
        from hvd.geometry.grid import GridSpec

        voxelnet, edge = self.voxelnet, TOTAL_STRIDE / self.bev.refinement
        x, y = (size * edge for size in voxelnet.voxel_size_m[:2])
        return GridSpec(voxelnet.range_min_m[:2], voxelnet.range_max_m[:2], (x, y))


class DecodeConfig(Config):
    """From maps to boxes."""

    candidates: PositiveInt = 200  # the best cells of a sample, over all classes: what NMS looks at
    min_score: float = Field(default=0.1, ge=0, lt=1)
    max_overlap: float = Field(default=0.1, ge=0, le=1)  # bird's-eye-view IoU of two boxes of one class that may stay


class DetectionLossConfig(Config):
    """Targets and weights of the centre-based loss."""

    min_overlap: float = Field(default=0.1, gt=0, lt=1)  # IoU with its object of a box at the rim of the Gaussian
    min_radius: PositiveInt = 2  # cells
    box_weight: PositiveFloat = 2.0  # beside the heat map's 1


# As usual on KITTI: the car range of SECOND, 1408 x 1600 x 40 voxels, cells of 0.4 m.
KITTI_VOXELNET = VoxelNetConfig(
    voxel_size_m=(0.05, 0.05, 0.1), range_min_m=(0.0, -40.0, -3.0), range_max_m=(70.4, 40.0, 1.0)
)
KITTI_DETECTOR = DetectorConfig(voxelnet=KITTI_VOXELNET)
# The same volume in 352 x 400 x 40 voxels and half the widths, with cells of 0.8 m.
SMALL_VOXELNET = VoxelNetConfig(
    voxel_size_m=(0.2, 0.2, 0.1),
    range_min_m=(0.0, -40.0, -3.0),
    range_max_m=(70.4, 40.0, 1.0),
    stem=8,
    stages=(8, 16, 32, 32),
    out_channels=64,
    norm_momentum=0.05,
)
SMALL_DETECTOR = DetectorConfig(
    voxelnet=SMALL_VOXELNET,
    bev=BevBackboneConfig(layers=(2, 2), channels=(64, 64), upsample=(2, 4), up_channels=(32, 32), norm_momentum=0.05),
    head=CentreHeadConfig(shared_channels=32, channels=32, norm_momentum=0.05),
)
