"""Cameras: LiDAR points -> pixels and back, and the one 3x3 matrix that an image augmentation is.

Pixel coordinates (u, v) are continuous and the centre of the top-left pixel is (0, 0). N points, K cameras, M pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.se3 import Array, Float64, inverse

MIN_DEPTH_M = 1.0
"""Nearer points never pair: the rule of the nuScenes devkit's `map_pointcloud_to_image`."""

_BORDER_PX = 1.0
_FAR_M = 1e12  # float32 would overflow in the products of coordinates much larger
_BLOCK = 2048  # points at a time: the product stays in the cache and on one thread
_ROUNDING = 8 * float(np.finfo(np.float32).eps)  # a bound on float32's relative error in a sum of four products


@dataclass(frozen=True)
class Pairs:
    """Points seen by cameras, ordered by camera, then by point; a point may be seen by several."""

    point: NDArray[np.int32]  # (M,) index into the frame's points
    camera: NDArray[np.uint8]  # (M,)
    uv: NDArray[np.float32]  # (M, 2) pixels of the original image
    depth: NDArray[np.float32]  # (M,) metres along the camera's axis

    def __len__(self) -> int:
        return len(self.point)


def project(
    points_lidar: NDArray[Any], camera_from_lidar: NDArray[Any], intrinsics: NDArray[Any]
) -> tuple[Float64, Float64]:
    """Project points into one camera: uvw = K (R p + t), uv = uvw[:2] / uvw[2], depth = uvw[2], in float64.

    Args:
        points_lidar: (N, 3) metres.
        camera_from_lidar: (4, 4).
        intrinsics: (3, 3) with last row (0, 0, 1).

    Returns:
        uv (N, 2) pixels, without meaning where depth <= 0; depth (N,) metres.
    """
    pixel_from_lidar = intrinsics @ camera_from_lidar[:3]  # (3, 4)
    rows = np.asarray(points_lidar.T, dtype=np.float64, order="C")  # long contiguous rows: several times faster
    uvw = pixel_from_lidar[:, :3] @ rows + pixel_from_lidar[:, 3:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (uvw[:2] / uvw[2]).T, uvw[2]


def in_image(uv: NDArray[Any], depth: NDArray[Any], width: int, height: int) -> NDArray[np.bool_]:
    """Which projected points (N, 2), (N,) pair with a pixel: depth > 1 m, 1 < u < width - 1, 1 < v < height - 1."""
    u, v = uv[:, 0], uv[:, 1]
    in_width = (u > _BORDER_PX) & (u < width - _BORDER_PX)
    in_height = (v > _BORDER_PX) & (v < height - _BORDER_PX)
    return (depth > MIN_DEPTH_M) & in_width & in_height


def pair_points(
    points: NDArray[Any], camera_from_lidar: NDArray[Any], intrinsics: NDArray[Any], width: int, height: int
) -> Pairs:
    """Pair points with the pixels of all cameras.

    A float32 pass discards the points that surely miss; `project` and `in_image` decide on the rest in float64, so the
    result is theirs exactly.

    Args:
        points: (N, 3) metres, LiDAR frame; points that are not finite, or 10^12 m away, never pair.
        camera_from_lidar: (K, 4, 4).
        intrinsics: (K, 3, 3).
        width, height: size in pixels of every image.
    """
    rows = np.ascontiguousarray(points.T)  # (3, N): long rows are several times faster than columns
    planes = _frustum_planes(intrinsics @ camera_from_lidar[:, :3], width, height)
    found = [
        _pairs_of(camera, np.flatnonzero(inside), rows, pose, matrix, width, height)
        for camera, (inside, pose, matrix) in enumerate(
            zip(_may_be_inside(rows, planes), camera_from_lidar, intrinsics, strict=True)
        )
    ]
    return _concatenated(found)


def _pairs_of(
    camera: int,
    candidates: NDArray[np.intp],
    rows: NDArray[Any],
    camera_from_lidar: NDArray[Any],
    intrinsics: NDArray[Any],
    width: int,
    height: int,
) -> Pairs:
    """The pairs of one camera, among the candidates (C,) of the points (3, N)."""
    uv, depth = project(rows.take(candidates, axis=1).T, camera_from_lidar, intrinsics)
    chosen = np.flatnonzero(in_image(uv, depth, width, height))
    return Pairs(
        point=candidates[chosen].astype(np.int32),
        camera=np.full(len(chosen), camera, dtype=np.uint8),
        uv=uv.astype(np.float32, order="C").take(chosen, axis=0),
        depth=depth.astype(np.float32)[chosen],
    )


def _concatenated(parts: list[Pairs]) -> Pairs:
    nothing = Pairs(np.empty(0, np.int32), np.empty(0, np.uint8), np.empty((0, 2), np.float32), np.empty(0, np.float32))
    parts = parts or [nothing]
    return Pairs(
        point=np.concatenate([part.point for part in parts]),
        camera=np.concatenate([part.camera for part in parts]),
        uv=np.concatenate([part.uv for part in parts]),
        depth=np.concatenate([part.depth for part in parts]),
    )


def _frustum_planes(pixel_from_lidar: Float64, width: int, height: int) -> Float64:
    """The rule of `in_image` as five half-spaces for each camera: (K, 5, 4) @ (x, y, z, 1) > 0.

    With (u w, v w, w) = pixel_from_lidar (K, 3, 4) @ (x, y, z, 1), and multiplied by w, which is positive.
    """
    uw, vw, w = np.moveaxis(pixel_from_lidar, 1, 0)
    too_near = np.array([0.0, 0.0, 0.0, MIN_DEPTH_M])
    right, bottom = width - _BORDER_PX, height - _BORDER_PX
    return np.stack([w - too_near, uw - _BORDER_PX * w, right * w - uw, vw - _BORDER_PX * w, bottom * w - vw], axis=1)


def _may_be_inside(rows: NDArray[Any], planes: Float64) -> NDArray[np.bool_]:
    """For each camera, which points (3, N) may lie in its frustum: (K, N), true for a few too many."""
    inside = np.empty((len(planes), rows.shape[1]), dtype=np.bool_)
    for start in range(0, rows.shape[1], _BLOCK):
        block = rows[:, start : start + _BLOCK]
        homogeneous = np.ones((4, block.shape[1]), dtype=np.float32)
        homogeneous[:3] = block
        homogeneous[~(np.abs(homogeneous) < _FAR_M)] = np.nan  # compares false below
        reach = np.fmax.reduce(np.abs(homogeneous), axis=1)  # (4,), NaN left out
        widened = planes.copy()
        widened[..., 3] += _ROUNDING * (np.abs(planes) @ reach)  # bounds what float32 may be off by, for every point
        distance = widened.reshape(-1, 4).astype(np.float32) @ homogeneous
        inside[:, start : start + _BLOCK] = distance.reshape(*planes.shape[:2], block.shape[1]).min(axis=1) > 0
    return inside


def resize(scale_x: float, scale_y: float) -> Float64:
    """Resizing as a matrix (3, 3): u -> (u + 0.5) s - 0.5 on each axis."""
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5], [0.0, 0.0, 1.0]])


def crop(left: float, top: float) -> Float64:
    """Cutting `left` columns and `top` rows off, as a matrix (3, 3)."""
    return np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])


def flip(width: float) -> Float64:
    """Mirroring an image of `width` columns about (width - 1) / 2, as a matrix (3, 3)."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def warp(aug_from_image: Array, uv: Array) -> Array:
    """Pixels (..., 2) of the original image, in the augmented one; the matrix is (3, 3) and affine."""
    warped: Array = uv @ aug_from_image[:2, :2].swapaxes(0, 1) + aug_from_image[:2, 2]
    return warped


def rays(
    uv: Array, lidar_from_camera: Array, intrinsics: Array, aug_from_image: Array, aug_from_lidar: Array
) -> tuple[Array, Array]:
    """Lines of sight in the augmented LiDAR frame: the point seen at depth d is origin + d * direction.

    Args:
        uv: (..., N, 2) pixels of the augmented image.
        lidar_from_camera: (..., 4, 4).
        intrinsics: (..., 3, 3).
        aug_from_image: (..., 3, 3).
        aug_from_lidar: (..., 4, 4).

    Returns:
        origin (..., 1, 3) metres; direction (..., N, 3), metres per metre of depth in the unaugmented camera.
    """
    aug_from_camera = aug_from_lidar @ lidar_from_camera
    image_from_aug = inverse(aug_from_image)
    camera_from_image = inverse(intrinsics)
    linear = aug_from_camera[..., :3, :3] @ camera_from_image @ image_from_aug  # takes (u, v, 1)
    direction = uv @ linear[..., :, :2].swapaxes(-1, -2) + linear[..., None, :, 2]
    return aug_from_camera[..., None, :3, 3], direction


def lift(
    uv: Array,
    depth: Array,
    lidar_from_camera: Array,
    intrinsics: Array,
    aug_from_image: Array,
    aug_from_lidar: Array,
) -> Array:
    """Pixels at a known depth as points (..., N, 3) of the augmented LiDAR frame, in metres.

    p = aug_from_lidar lidar_from_camera (d inv(K) inv(aug_from_image) [u, v, 1]): lift-splat (arXiv 2008.05711) with
    both augmentations undone and applied where they belong. Shapes as in `rays`; depth is (..., N) metres of the
    unaugmented camera.
    """
    origin, direction = rays(uv, lidar_from_camera, intrinsics, aug_from_image, aug_from_lidar)
    lifted: Array = origin + depth[..., None] * direction
    return lifted


def cell_centres(count: int, stride: float) -> Float64:
    """Where the centres of feature cells 0 .. count - 1 lie in the image, in pixels: (j + 0.5) stride - 0.5."""
    centres: Float64 = (np.arange(count) + 0.5) * stride - 0.5
    return centres
