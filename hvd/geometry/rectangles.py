"""Rectangles that lie on a plane at any angle: how much two of them overlap, in float64. N pairs, V vertices.

A rectangle is x, y of its centre, length, width and angle: metres and radians, counter-clockwise from the x axis.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.se3 import Float64

OUTLINE = [0, 1, 3, 4, 6]  # of `boxes_lidar` (N, 7), the columns that are its rectangle on the ground
_SIGNS = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])  # counter-clockwise


def rectangle_corners(rectangles: NDArray[Any]) -> Float64:
    """Corners (N, 4, 2) of rectangles (N, 5), counter-clockwise."""
    rectangles = np.asarray(rectangles, np.float64)
    local = rectangles[:, None, 2:4] * _SIGNS
    cos, sin = np.cos(rectangles[:, None, 4]), np.sin(rectangles[:, None, 4])
    turned = np.stack([cos * local[..., 0] - sin * local[..., 1], sin * local[..., 0] + cos * local[..., 1]], axis=-1)
    placed: Float64 = rectangles[:, None, :2] + turned
    return placed


def may_overlap(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the circles around two rectangles touch: (N,) for pairs (N, 5); false where they surely don't overlap."""
    distance = np.hypot(first[:, 0] - second[:, 0], first[:, 1] - second[:, 1])
    reach: Float64 = np.hypot(first[:, 2], first[:, 3]) / 2 + np.hypot(second[:, 2], second[:, 3]) / 2
    near: NDArray[np.bool_] = distance <= reach + 1e-9
    return near


def intersection_area(first: NDArray[Any], second: NDArray[Any]) -> Float64:
    """Area (N,) that two rectangles share, for pairs (N, 5): one is clipped at the four sides of the other.

    Sutherland and Hodgman, "Reentrant polygon clipping" (1974). Each step is continuous in its input, so sides that
    fall on one another cost no accuracy.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    area = np.zeros(len(first))
    near = np.flatnonzero(may_overlap(first, second))
    area[near] = _clipped_area(first[near], second[near])
    return area


def _clipped_area(first: Float64, second: Float64) -> Float64:
    """`intersection_area` without looking at distances, in the frame of the second rectangle."""
    cos, sin = np.cos(second[:, 4]), np.sin(second[:, 4])
    x, y = (first[:, :2] - second[:, :2]).T
    local = np.stack(
        [cos * x + sin * y, cos * y - sin * x, *np.abs(first[:, 2:4].T), first[:, 4] - second[:, 4]], axis=1
    )
    polygon, count = rectangle_corners(local), np.full(len(first), 4)
    half = np.abs(second[:, 2:4]) / 2
    for axis in (0, 1):
        for sign in (1.0, -1.0):
            polygon, count = _clip(polygon, count, half[:, None, axis] - sign * polygon[..., axis])
    return _area(polygon)


def _clip(polygon: Float64, count: NDArray[np.int64], inward: Float64) -> tuple[Float64, NDArray[np.int64]]:
    """Cut polygons at a line.

    Args:
        polygon: (N, V, 2), of which `count` vertices count; the first one fills the rest.
        count: (N,).
        inward: (N, V) signed distance of each vertex from the line, positive on the side that is kept.

    Returns:
        The same two for what is left.
    """
    real = np.arange(polygon.shape[1]) < count[:, None]  # (N, V)
    following = np.roll(polygon, -1, axis=1)  # the filling makes the last vertex's neighbour the first one
    next_inward = np.roll(inward, -1, axis=1)
    inside = inward >= 0
    crosses = inside != (next_inward >= 0)
    step = inward - next_inward
    share = np.divide(inward, step, out=np.zeros_like(step), where=crosses)
    crossing = polygon + share[..., None] * (following - polygon)
    slots = 2 * polygon.shape[1]
    kept = np.stack([inside & real, crosses & real], axis=2).reshape(-1, slots)  # (N, 2V)
    vertices = np.stack([polygon, crossing], axis=2).reshape(-1, slots, 2)
    left = kept.sum(axis=1)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : max(int(left.max(initial=0)), 1)]
    compact = np.take_along_axis(vertices, order[..., None], axis=1)
    filling = np.arange(compact.shape[1]) >= left[:, None]
    return np.where(filling[..., None], compact[:, :1], compact), left


def _area(polygon: Float64) -> Float64:
    """Area (N,) of convex polygons (N, V, 2); 0 of one that has collapsed."""
    spokes = polygon[:, 1:] - polygon[:, :1]
    cross = spokes[:, :-1, 0] * spokes[:, 1:, 1] - spokes[:, :-1, 1] * spokes[:, 1:, 0]
    area: Float64 = np.maximum(cross.sum(axis=1) / 2, 0.0)
    return area
