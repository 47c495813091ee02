"""Affine transforms as 4x4 matrices named `target_from_source`, so that products read by cancelling neighbours."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", NDArray[Any], "torch.Tensor")
"""A numpy array or a torch tensor: what goes in is what comes out."""

Float64 = NDArray[np.float64]

_UNIT_TOLERANCE = 1e-3  # published quaternions carry at least four digits


def from_quaternion(rotation_wxyz: ArrayLike, translation: ArrayLike) -> Float64:
    """The rigid transform (4, 4) of a unit quaternion (w, x, y, z) and a translation (3,) in metres.

    Raises:
        ValueError: wrong shapes, a value that is not finite, or a quaternion that is not of unit length.
    """
    quaternion = np.asarray(rotation_wxyz, dtype=np.float64)
    offset = np.asarray(translation, dtype=np.float64)
    if quaternion.shape != (4,) or offset.shape != (3,):
        raise ValueError(f"expected 4 and 3 numbers, got shapes {quaternion.shape} and {offset.shape}")
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite(offset).all() or not abs(norm - 1.0) < _UNIT_TOLERANCE:
        raise ValueError(f"quaternion of length {norm:.6g} (not 1), or a translation that is not finite")
    target_from_source = np.eye(4)
    target_from_source[:3, :3] = _rotation(quaternion / norm)
    target_from_source[:3, 3] = offset
    return target_from_source


def _rotation(quaternion: Float64) -> Float64:
    """The rotation matrix (3, 3) of a unit quaternion: v -> v + 2 w (q x v) + 2 q x (q x v)."""
    w, x, y, z = quaternion
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation: Float64 = np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross
    return rotation


def inverse(matrix: Array) -> Array:
    """The inverse of square matrices (..., D, D): `target_from_source` -> `source_from_target`."""
    if isinstance(matrix, np.ndarray):
        inverted: NDArray[Any] = np.linalg.inv(matrix)
        return inverted
    return matrix.inverse()


def transform(target_from_source: Array, points: Array) -> Array:
    """Points (..., N, 3) of the source frame, expressed in the target frame; matrices are (..., 4, 4)."""
    linear = target_from_source[..., :3, :3]
    moved: Array = points @ linear.swapaxes(-1, -2) + target_from_source[..., None, :3, 3]
    return moved
