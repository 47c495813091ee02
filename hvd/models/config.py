"""What fixes the student's shape (no torch here: these configs enter artifact keys)."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hvd.config import Config

Eight = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class UNetConfig(Config):
    """A residual sparse U-Net with four levels below the full resolution."""

    voxel_size_m: PositiveFloat  # edge of the cubic voxels
    stem: PositiveInt  # channels of the first convolution, at full resolution
    planes: Eight  # channels of the four encoder stages (strides 2, 4, 8, 16) and the four decoder stages (8, 4, 2, 1)
    layers: Eight  # residual blocks of each stage
    norm_momentum: float = Field(default=0.05, gt=0, le=1)  # share of the new batch in the running statistics


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
SMALL_BEV_HEAD = BevHeadConfig(kind="pool")
