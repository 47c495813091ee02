"""3D boxes in the LiDAR frame and as KITTI writes them, and what is asked of them. N boxes, P points.

Two layouts, both (N, 7) float64, metres and radians:

- `boxes_lidar`: x y z of the centre, length, width, height, yaw. The box stands upright on the LiDAR's z axis and its
  length points along (cos yaw, sin yaw).
- `boxes_rect`: height, width, length, x y z of the bottom face's centre, rotation_y: fields 9 to 15 of a KITTI label,
  in the rectified frame of the reference camera (x right, y down, z ahead). The box stands upright on the camera's y
  axis and its length points along (x, z) = (cos ry, -sin ry).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.se3 import Float64, inverse, transform

# Corner k of a box, in halves of (length, width, height): the bottom face turning left, then the top face.
_CORNERS = np.array([[x, y, z] for z in (-0.5, 0.5) for x, y in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))])
_EDGES = np.array([(k, (k + 1) % 4) for k in range(4)])
EDGES = np.concatenate([_EDGES, _EDGES + 4, [(k, k + 4) for k in range(4)]])
"""The twelve edges of a box as pairs of its corners: (12, 2)."""

NEAR_M = 0.1
"""Nearer parts of a box are cut off before it is projected: they are behind the lens."""

_RIGID_TOLERANCE = 1e-6


def wrap_angle(angle: Any) -> Float64:
    """Angles in radians, moved to [-pi, pi)."""
    wrapped: Float64 = (np.asarray(angle, np.float64) + math.pi) % (2 * math.pi) - math.pi
    return wrapped


def corners(boxes_lidar: NDArray[Any]) -> Float64:
    """The corners (N, 8, 3) of boxes (N, 7), LiDAR frame: bottom face from front left to front right, then the top."""
    boxes = np.asarray(boxes_lidar, np.float64)
    local = boxes[:, None, 3:6] * _CORNERS  # (N, 8, 3)
    cos, sin = np.cos(boxes[:, None, 6]), np.sin(boxes[:, None, 6])
    x, y = local[..., 0], local[..., 1]
    placed: Float64 = boxes[:, None, :3] + np.stack([cos * x - sin * y, sin * x + cos * y, local[..., 2]], axis=-1)
    return placed


def corners_rect(boxes_rect: NDArray[Any]) -> Float64:
    """The corners (N, 8, 3) of KITTI's boxes (N, 7), rectified camera frame, the bottom face first."""
    boxes = np.asarray(boxes_rect, np.float64)
    local = boxes[:, None, [2, 1, 0]] * _CORNERS
    cos, sin = np.cos(boxes[:, None, 6]), np.sin(boxes[:, None, 6])
    along, across, up = local[..., 0], local[..., 1], local[..., 2] + boxes[:, None, 0] / 2
    turned = np.stack([cos * along + sin * across, -up, cos * across - sin * along], axis=-1)
    placed: Float64 = boxes[:, None, 3:6] + turned
    return placed


def lidar_from_rect_boxes(boxes_rect: NDArray[Any], rect_from_lidar: Float64) -> Float64:
    """KITTI's boxes (N, 7) in the LiDAR frame (N, 7).

    The centre moves with the calibration. The heading does too and is then laid flat: the two frames' upright axes
    differ by about a degree, so a box that stands on one leans against the other.

    Args:
        boxes_rect: heights, widths, lengths, bottom centres and rotation_y.
        rect_from_lidar: (4, 4), the label's frame from the LiDAR's.
    """
    boxes = np.asarray(boxes_rect, np.float64)
    lidar_from_rect = inverse(rect_from_lidar)
    middle = boxes[:, 3:6] - boxes[:, :1] * [0.0, 0.5, 0.0]  # y points down
    heading = np.stack([np.cos(boxes[:, 6]), -np.sin(boxes[:, 6])], axis=-1) @ _ground(lidar_from_rect).T
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    centre = transform(lidar_from_rect, middle)
    return np.concatenate([centre, boxes[:, [2, 1, 0]], yaw[:, None]], axis=1)


def rect_from_lidar_boxes(boxes_lidar: NDArray[Any], rect_from_lidar: Float64) -> Float64:
    """Boxes (N, 7) of the LiDAR frame as KITTI writes them (N, 7): the inverse of `lidar_from_rect_boxes`.

    Args:
        boxes_lidar: centres, lengths, widths, heights and yaw.
        rect_from_lidar: (4, 4), the label's frame from the LiDAR's.
    """
    boxes = np.asarray(boxes_lidar, np.float64)
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=-1)
    heading = heading @ inverse(_ground(inverse(rect_from_lidar))).T  # (x, z)
    rotation_y = np.arctan2(-heading[:, 1], heading[:, 0])
    bottom = transform(rect_from_lidar, boxes[:, :3]) + boxes[:, 5:6] * [0.0, 0.5, 0.0]
    return np.concatenate([boxes[:, [5, 4, 3]], bottom, rotation_y[:, None]], axis=1)


def _ground(lidar_from_rect: Float64) -> Float64:
    """What becomes of a heading: (x, y) of the LiDAR from (x, z) of the camera, (2, 2)."""
    return lidar_from_rect[:2, [0, 2]]


def observation_angle(boxes_rect: NDArray[Any]) -> Float64:
    """KITTI's alpha (N,): rotation_y less the bearing of the box from the reference camera, in [-pi, pi)."""
    boxes = np.asarray(boxes_rect, np.float64)
    return wrap_angle(boxes[:, 6] - np.arctan2(boxes[:, 3], boxes[:, 5]))


def image_boxes(boxes_rect: NDArray[Any], image_from_rect: Float64, width: int, height: int) -> Float64:
    """What the boxes span in the image: (N, 4) left, top, right, bottom in pixels.

    Clipped to [0, width - 1] x [0, height - 1], as labels are. Of a box that reaches behind the camera, the part at
    least 0.1 m ahead counts. A box that the image doesn't show gets no area, and zeros if it is wholly behind.

    Args:
        boxes_rect: (N, 7).
        image_from_rect: (3, 4), KITTI's P2.
        width, height: of the image.
    """
    uvw = corners_rect(boxes_rect) @ image_from_rect[:, :3].T + image_from_rect[:, 3]  # (N, 8, 3)
    ends = uvw[:, EDGES]  # (N, 12, 2, 3)
    kept, ahead = cut_near(ends)
    uv = kept[..., :2] / np.maximum(kept[..., 2:], NEAR_M)
    limit = np.array([width - 1.0, height - 1.0])
    low = np.where(ahead[..., None], uv, np.inf).min(axis=(1, 2)).clip(0.0, limit)
    high = np.where(ahead[..., None], uv, -np.inf).max(axis=(1, 2)).clip(0.0, limit)
    spans = np.concatenate([low, high], axis=1)
    return np.where(ahead.any(axis=(1, 2))[:, None], spans, 0.0)


def cut_near(ends: Float64) -> tuple[Float64, NDArray[np.bool_]]:
    """Edges (..., 2, 3) of ends (u w, v w, w), cut where they pass `NEAR_M`; and which ends are left (..., 2)."""
    depth = ends[..., 2]
    ahead = depth >= NEAR_M
    step = depth[..., ::-1] - depth
    share = np.divide(NEAR_M - depth, step, out=np.zeros_like(depth), where=step != 0)[..., None]
    crosses = ahead.any(axis=-1, keepdims=True) & ~ahead
    moved = ends + share * (ends[..., ::-1, :] - ends)
    return np.where(crosses[..., None], moved, ends), ahead | crosses


def edges_in_image(
    corners_lidar: NDArray[Any], camera_from_lidar: NDArray[Any], intrinsics: NDArray[Any]
) -> tuple[Float64, NDArray[np.int64]]:
    """The edges of boxes as lines in the plane of an image, cut where they come nearer than 0.1 m.

    Args:
        corners_lidar: (N, 8, 3) in the order of `corners`.
        camera_from_lidar: (4, 4).
        intrinsics: (3, 3).

    Returns:
        Ends (E, 2, 2) in pixels of what is left of at most 12 N edges; and the box of each (E,).
    """
    uvw = transform(camera_from_lidar, np.asarray(corners_lidar, np.float64).reshape(-1, 3)) @ intrinsics.T
    kept, ahead = cut_near(uvw.reshape(-1, 8, 3)[:, EDGES])  # (N, 12, 2, 3)
    box, edge = np.nonzero(ahead.all(axis=-1))
    ends = kept[box, edge]
    return ends[..., :2] / ends[..., 2:], box


def points_in_boxes(points: NDArray[Any], boxes_lidar: NDArray[Any]) -> NDArray[np.bool_]:
    """Which points lie in which boxes, borders included: (N, P).

    Args:
        points: (P, 3) metres, LiDAR frame; points that are not finite lie in none.
        boxes_lidar: (N, 7).
    """
    xyz = np.ascontiguousarray(np.asarray(points, np.float64)[:, :3].T)
    inside = np.zeros((len(boxes_lidar), xyz.shape[1]), np.bool_)
    for row, box in enumerate(np.asarray(boxes_lidar, np.float64)):
        reach = math.hypot(box[3], box[4]) / 2 + 1e-6
        near = np.flatnonzero((np.abs(xyz[0] - box[0]) <= reach) & (np.abs(xyz[1] - box[1]) <= reach))
        inside[row, near] = _inside(xyz[:, near], box)
    return inside


def _inside(xyz: Float64, box: Float64) -> NDArray[np.bool_]:
    """Which points (3, P) lie in one box (7,)."""
    x, y, z = xyz - box[:3, None]
    cos, sin = math.cos(box[6]), math.sin(box[6])
    along, across = cos * x + sin * y, cos * y - sin * x
    half = box[3:6, None] / 2
    inside: NDArray[np.bool_] = (np.abs([along, across, z]) <= half).all(axis=0)
    return inside


def transform_boxes(aug_from_lidar: Float64, boxes_lidar: NDArray[Any]) -> Float64:
    """Boxes (N, 7) under the point augmentation's matrix (4, 4): rotation about z, mirrors, one scale and a shift.

    A mirrored box is the box whose heading is mirrored: boxes are symmetric.

    Raises:
        ValueError: the matrix is anything else, so that a box would not stay an upright box.
    """
    boxes = np.asarray(boxes_lidar, np.float64)
    linear = aug_from_lidar[:3, :3]
    scale = math.sqrt(float((linear * linear).sum() / 3))
    off = np.abs(linear.T @ linear - scale**2 * np.eye(3)).max()
    upright = linear[2, 2] > 0 and not linear[2, :2].any() and not linear[:2, 2].any()
    if not upright or off > _RIGID_TOLERANCE * scale**2 or not np.array_equal(aug_from_lidar[3], [0, 0, 0, 1]):
        raise ValueError(f"no rotation about z with mirrors, one scale and a shift: {aug_from_lidar.tolist()}")
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=-1) @ linear[:2, :2].T
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    return np.concatenate([transform(aug_from_lidar, boxes[:, :3]), scale * boxes[:, 3:6], yaw[:, None]], axis=1)
