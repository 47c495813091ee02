"""Which projected points lie behind others: the roof LiDAR sees over what the camera can't see past. M pairs."""

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.camera import Pairs

_PATCH = 1 / 75  # of the image's width: the beams of a LiDAR project further apart than pixels
_MARGIN = 0.1  # share of the nearest depth by which a point must lie behind to count as hidden


def occluded(pairs: Pairs, width: int) -> NDArray[np.bool_]:
    """Whether a nearer point of the same camera hides each pair: (M,), by a z-buffer of square patches.

    Args:
        pairs: on images of `width` pixels.
        width: a patch is 1/75 of it, 21 pixels of 1600.
    """
    column, row = np.floor((pairs.uv.astype(np.float64) + 0.5) / (_PATCH * width)).astype(np.int64).T
    patch = (pairs.camera.astype(np.int64) << 40) + (row << 20) + column
    _, member = np.unique(patch, return_inverse=True)
    nearest = np.full(member.max(initial=-1) + 1, np.inf)
    np.minimum.at(nearest, member, pairs.depth)
    hidden: NDArray[np.bool_] = pairs.depth > nearest[member] * (1 + _MARGIN)
    return hidden
