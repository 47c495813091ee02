"""Which projected points lie behind others: the roof LiDAR sees over what the camera can't see past. M pairs."""

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.camera import Pairs

_CELL_PX = 12.0  # beams project further apart than pixels: the nearest point of a patch hides what lies behind it
_MARGIN = 0.1  # share of the nearest depth by which a point must lie behind to count as hidden


def occluded(pairs: Pairs) -> NDArray[np.bool_]:
    """Whether a nearer point of the same camera hides each pair: (M,), by a z-buffer of patches of 12 x 12 pixels."""
    column, row = np.floor((pairs.uv.astype(np.float64) + 0.5) / _CELL_PX).astype(np.int64).T
    patch = (pairs.camera.astype(np.int64) << 40) + (row << 20) + column
    _, member = np.unique(patch, return_inverse=True)
    nearest = np.full(member.max(initial=-1) + 1, np.inf)
    np.minimum.at(nearest, member, pairs.depth)
    hidden: NDArray[np.bool_] = pairs.depth > nearest[member] * (1 + _MARGIN)
    return hidden
