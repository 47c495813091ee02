"""How frames with boxes are augmented, as configuration: it enters keys, and planning loads no numpy for it."""

from pydantic import Field, NonNegativeInt, PositiveInt

from hvd.config import Config
from hvd.datasets.augment_config import Range


class BoxAugmentation(Config):
    """How a whole frame is moved, points and boxes alike; all zero (the default) leaves it where it is."""

    rotation_deg: float = Field(default=0.0, ge=0.0, le=180.0)
    """Rotation about z, uniform in [-rotation_deg, rotation_deg]."""
    scale: Range = (1.0, 1.0)
    """Uniform range of the scale."""
    flip_y: bool = False
    """Mirror y, with probability 1/2: a camera that looks along x sees its left side on the right."""


class ObjectSampling(Config):
    """Objects of other labelled frames that are put into a frame (SECOND's ground-truth sampling)."""

    up_to: tuple[tuple[str, NonNegativeInt], ...] = (("Car", 15), ("Pedestrian", 10), ("Cyclist", 10))
    """Objects of each class in a frame afterwards, its own counted."""
    min_points: PositiveInt = 5
    """An object of fewer points is not taken up."""
