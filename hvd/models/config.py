"""What fixes the student's shape (no torch here: these configs enter artifact keys)."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from hvd.config import Config, closest
from hvd.errors import InputError
from hvd.models.detector_config import VoxelNetConfig

StudentKind = Literal["unet", "voxelnet"]
Eight = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class UNetConfig(Config):
    """A residual sparse U-Net with four levels below the full resolution."""

    kind: ClassVar[StudentKind] = "unet"
    title: ClassVar[str] = "U-Net"

    voxel_size_m: PositiveFloat  # edge of the cubic voxels
    stem: PositiveInt  # channels of the first convolution, at full resolution
    planes: Eight  # channels of the four encoder stages (strides 2, 4, 8, 16) and the four decoder stages (8, 4, 2, 1)
    layers: Eight  # residual blocks of each stage
    norm_momentum: float = Field(default=0.05, gt=0, le=1)  # share of the new batch in the running statistics

    @property
    def voxel_edges_m(self) -> tuple[float, float, float]:
        """Edges of a voxel along x, y, z."""
        return self.voxel_size_m, self.voxel_size_m, self.voxel_size_m

    @property
    def feature_channels(self) -> int:
        """Width of the features at the voxels."""
        return self.planes[-1]


STUDENT_CONFIGS: dict[str, type[UNetConfig] | type[VoxelNetConfig]] = {c.kind: c for c in (UNetConfig, VoxelNetConfig)}


def kind_of(value: Any) -> StudentKind:
    """The kind of a student's configuration, or of one as plain values.

    It is told by the fields' names: where there was one kind alone, it entered no key, and must not now.
    """
    if isinstance(value, UNetConfig | VoxelNetConfig):
        return value.kind
    return closest(STUDENT_CONFIGS.values(), value).kind


def require_kind(found: StudentKind, needed: StudentKind | None, where: object) -> None:
    """Raises InputError if the student at `where` is another kind than `needed` (None: any will do)."""
    if needed not in (None, found):
        raise InputError(
            "the student is another kind of network",
            where=where,
            why=f"a {STUDENT_CONFIGS[found].title}, and a {STUDENT_CONFIGS[needed].title} is needed",
            hint=f"name another with --from, or run: hvd pretrain --student {needed}",
        )


StudentConfig = Annotated[
    Annotated[UNetConfig, Tag("unet")] | Annotated[VoxelNetConfig, Tag("voxelnet")], Discriminator(kind_of)
]


class BevHeadConfig(Config):
    """How the student's voxel features collapse onto the ground grid."""

    kind: Literal["pool", "conv"]  # mean over the pillar + linear layer, or strided sparse convolutions
    channels: PositiveInt = 64  # features per cell, shared with the image branch
    strides: tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...] | None = None  # "conv" alone: (x, y, z) by layer

    @model_validator(mode="after")
    def _strides_belong_to_conv(self) -> Self:
        if (self.kind == "conv") != bool(self.strides):
            raise ValueError('strides are needed with kind "conv", and mean nothing otherwise')
        return self


# Res16UNet34C of the paper: total stride 16, and ResNet-34's numbers of blocks.
PAPER_UNET = UNetConfig(
    voxel_size_m=0.1, stem=32, planes=(32, 64, 128, 256, 256, 128, 96, 96), layers=(2, 3, 4, 6, 2, 2, 2, 2)
)
# Small enough for hundreds of training steps in minutes on two CPU cores.
SMALL_UNET = UNetConfig(
    voxel_size_m=0.2, stem=24, planes=(32, 48, 64, 96, 64, 48, 48, 48), layers=(1, 1, 1, 1, 1, 1, 1, 1)
)

# 0.1 m voxels into 0.4 m cells and one slab of 8 m: total stride 4 x 4 x 80.
PAPER_BEV_HEAD = BevHeadConfig(kind="conv", strides=((2, 2, 4), (2, 2, 4), (1, 1, 5)))
# The same cells and slab in KITTI's voxels of 0.05 x 0.05 x 0.1 m: total stride 8 x 8 x 80. Convolutions as with the
# U-Net: their kernels tell apart where in the pillar a voxel lies, which a mean over up to 5120 voxels would not.
PAPER_VOXELNET_BEV_HEAD = BevHeadConfig(kind="conv", strides=((2, 2, 4), (2, 2, 4), (2, 2, 5)))
SMALL_BEV_HEAD = BevHeadConfig(kind="pool")
