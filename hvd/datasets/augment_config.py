"""How samples are augmented, as configuration: it enters keys, and planning loads no numpy for it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from hvd.config import Config

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 < ends[0] <= ends[1]:
        raise ValueError("not 0 < low <= high")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


class PointAugmentation(Config):
    """How points are moved; all zero (the default) leaves them where they are."""

    rotation_deg: float = Field(default=0.0, ge=0.0, le=180.0)
    """Rotation about z, uniform in [-rotation_deg, rotation_deg]."""
    shift_std_m: float = Field(default=0.0, ge=0.0)
    """Standard deviation of the shift along each axis."""
    scale: Range = (1.0, 1.0)
    """Uniform range of the scale."""
    flip: bool = False
    """Mirror x and y, each with probability 1/2."""
    drop_cuboid: Share = 0.0
    """Largest side of the cuboid that is cut out, as a share of the sweep's extent; 0 cuts none."""


class ImageAugmentation(Config):
    """Which crop of an image is resized to the network's input, and whether it is mirrored."""

    scale: Range = (0.3, 1.0)
    """Uniform range of the crop's share of the image's area."""
    ratio: Range = (14 / 9, 17 / 9)
    """Range of the crop's width / height, uniform in its logarithm."""
    flip: Share = 0.5
    """Probability of mirroring left and right."""
