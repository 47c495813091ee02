"""Boxes between the LiDAR's frame and KITTI's labels, their corners, points and images: against plain loops."""

import math

import numpy as np
import pytest

from hvd.datasets.augment import draw_point_matrix
from hvd.datasets.augment_config import PointAugmentation
from hvd.geometry.boxes import (
    corners,
    corners_rect,
    edges_in_image,
    image_boxes,
    lidar_from_rect_boxes,
    observation_angle,
    points_in_boxes,
    rect_from_lidar_boxes,
    transform_boxes,
    wrap_angle,
)
from hvd.geometry.se3 import transform

# x right, y down, z ahead, seen from x ahead, y left, z up
PLAIN = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
P2 = np.array([[700.0, 0, 600, 45], [0, 700, 180, -0.3], [0, 0, 1, 0.005]])


def tilted(rng: np.random.Generator) -> np.ndarray:
    """The plain frames, turned against each other by about a degree and shifted, as KITTI's are."""
    a, b, c = rng.normal(0, 0.02, 3)
    small = np.array([[1, -a, b], [a, 1, -c], [-b, c, 1]])
    left, _, right = np.linalg.svd(small)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = left @ right, rng.normal(0, 0.3, 3)
    return matrix @ PLAIN


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    place = rng.uniform([2, -30, -2], [70, 30, 1], (count, 3))
    return np.concatenate([place, rng.uniform(0.4, 6, (count, 3)), rng.uniform(-3, 3, (count, 1))], axis=1)


def test_label_by_hand() -> None:
    """A car 10 m ahead and 2 m to the right, driving away: rotation_y is -90 degrees, and y is that of its bottom."""
    ahead = np.array([[10.0, -2.0, -0.5, 4.0, 1.8, 1.5, 0.0]])
    label = rect_from_lidar_boxes(ahead, PLAIN)
    np.testing.assert_allclose(label, [[1.5, 1.8, 4.0, 2.0, 0.5 + 0.75, 10.0, -math.pi / 2]], atol=1e-12)
    np.testing.assert_allclose(observation_angle(label), [-math.pi / 2 - math.atan2(2, 10)])
    ahead[0, 6] = math.pi / 2
    left = rect_from_lidar_boxes(ahead, PLAIN)
    assert abs(left[0, 6]) == pytest.approx(math.pi), "to the left: rotation_y 0 is to the right"


def test_there_and_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rect_from_lidar, boxes = tilted(rng), random_boxes(rng, 30)
        label = rect_from_lidar_boxes(boxes, rect_from_lidar)
        again = lidar_from_rect_boxes(label, rect_from_lidar)
        np.testing.assert_allclose(again[:, :6], boxes[:, :6], atol=1e-10)
        np.testing.assert_allclose(wrap_angle(again[:, 6] - boxes[:, 6]), 0, atol=1e-10)


def same_points(first: np.ndarray, second: np.ndarray) -> float:
    """The largest distance from a corner of the one box to the nearest corner of the other."""
    return float(np.linalg.norm(first[:, None] - second[None], axis=-1).min(axis=1).max())


def test_both_layouts_have_the_same_corners() -> None:
    """Exactly where the upright axes agree; within what the tilt moves a corner where they don't."""
    rng = np.random.default_rng(1)
    for rect_from_lidar, tolerance in ((PLAIN, 1e-9), (tilted(rng), 6 * 0.06)):
        boxes = random_boxes(rng, 50)
        label = rect_from_lidar_boxes(boxes, rect_from_lidar)
        for box, rect in zip(corners(boxes), corners_rect(label), strict=True):
            assert same_points(transform(rect_from_lidar, box), rect) < tolerance


def test_corners_by_hand() -> None:
    """A box 4 x 2 x 1 that looks along y: its front left is at x - 1, y + 2."""
    found = corners(np.array([[10.0, 5, 0, 4, 2, 1, math.pi / 2]]))[0]
    bottom = [[9, 7, -0.5], [9, 3, -0.5], [11, 3, -0.5], [11, 7, -0.5]]
    np.testing.assert_allclose(found, [*bottom, *([x, y, 0.5] for x, y, _ in bottom)], atol=1e-12)


def contains(box: np.ndarray, point: np.ndarray) -> bool:
    """Point by point, with the matrix that takes it to the box's own frame."""
    c, s = math.cos(box[6]), math.sin(box[6])
    own = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ (point - box[:3])
    return all(abs(own[k]) <= box[3 + k] / 2 for k in range(3))


def test_points_in_boxes_equals_brute_force() -> None:
    rng = np.random.default_rng(2)
    boxes = random_boxes(rng, 10)
    points = np.concatenate([rng.uniform([0, -32, -4], [72, 32, 3], (300, 3)), corners(boxes * 0.999).reshape(-1, 3)])
    near = boxes[rng.integers(0, 10, 400), :3] + rng.normal(0, 1.2, (400, 3))
    points = np.concatenate([points, near])
    expected = [[contains(box, point) for point in points] for box in boxes]
    inside = points_in_boxes(points, boxes)
    np.testing.assert_array_equal(inside, expected)
    assert inside.sum() > 100
    assert not points_in_boxes(np.full((3, 3), np.nan), boxes).any()
    assert points_in_boxes(points, boxes[:0]).shape == (0, len(points))


def test_borders_belong_to_the_box() -> None:
    box = np.array([[1.0, 2, 3, 4, 2, 1, 0]])
    assert points_in_boxes(np.array([[3.0, 3, 3.5]]), box).all()
    assert not points_in_boxes(np.array([[3.0001, 3, 3.5]]), box).any()


@pytest.mark.parametrize("seed", range(5))
def test_boxes_move_with_their_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = PointAugmentation(rotation_deg=180.0, shift_std_m=0.5, scale=(0.8, 1.2), flip=True)
    matrix = draw_point_matrix(config, rng)
    boxes = random_boxes(rng, 20)
    moved = transform_boxes(matrix, boxes)
    for before, after in zip(corners(boxes), corners(moved), strict=True):
        assert same_points(transform(matrix, before), after) < 1e-9
    front = boxes[:, :3] + np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), np.zeros(20)], axis=1)
    ahead = transform(matrix, front) - moved[:, :3]
    np.testing.assert_allclose(np.arctan2(ahead[:, 1], ahead[:, 0]), moved[:, 6], atol=1e-9)


@pytest.mark.parametrize("place", [(0, 0), (2, 2), (0, 2), (2, 0), (3, 0)])
def test_other_transforms_are_refused(place: tuple[int, int]) -> None:
    matrix = np.eye(4)
    matrix[place] = -1.5
    with pytest.raises(ValueError, match="rotation about z"):
        transform_boxes(matrix, np.zeros((1, 7)))


def surface(rect: np.ndarray, steps: int = 40) -> np.ndarray:
    """Points all over a box (7,) of a label, edges included."""
    h, w, length, x, y, z, ry = rect
    line = np.linspace(-0.5, 0.5, steps)
    a, b, c = (axis.ravel() for axis in np.meshgrid(line * length, line * w, np.linspace(0, 1, steps) * -h))
    return np.stack([x + math.cos(ry) * a + math.sin(ry) * b, y + c, z - math.sin(ry) * a + math.cos(ry) * b], axis=1)


@pytest.mark.parametrize("depth", [20.0, 6.0, 2.0, 0.5])
def test_image_boxes_equal_what_all_points_span(depth: float) -> None:
    """At 2 m and 0.5 m the box passes the camera, and the part ahead of it counts."""
    rect = np.array([1.6, 1.8, 4.2, 1.5, 1.2, depth, 0.4])
    points = surface(rect)
    uvw = points @ P2[:, :3].T + P2[:, 3]
    uv = uvw[uvw[:, 2] > 0.1, :2] / uvw[uvw[:, 2] > 0.1, 2:]
    limit = [1241, 374]
    expected = np.concatenate([uv.min(0).clip(0, limit), uv.max(0).clip(0, limit)])
    found = image_boxes(rect[None], P2, 1242, 375)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6 if depth > 5 else 3)


def test_image_boxes_out_of_sight() -> None:
    behind, beside = [1.5, 1.8, 4, 0, 1, -20, 0], [1.5, 1.8, 4, 60, 1, 10, 0]
    found = image_boxes(np.array([behind, beside]), P2, 1242, 375)
    np.testing.assert_array_equal(found[0], 0)
    assert found[1, 0] == found[1, 2] == 1241


def test_edges_in_an_image_by_hand() -> None:
    """A cube of 2 m whose near face is 9 m ahead: its face spans 2 / 9, its back 2 / 11 of the focal length."""
    intrinsics = np.array([[99.0, 0, 50], [0, 99.0, 40], [0, 0, 1]])
    ends, box = edges_in_image(corners([[10.0, 0, 0, 2, 2, 2, 0]]), PLAIN, intrinsics)
    assert len(ends) == 12 and (box == 0).all()
    found = {(round(u, 6), round(v, 6)) for u, v in ends.reshape(-1, 2)}
    near = {(50 + s * 11, 40 + t * 11) for s in (1, -1) for t in (1, -1)}
    far = {(50 + s * 9, 40 + t * 9) for s in (1, -1) for t in (1, -1)}
    assert found == near | far


def test_edges_are_cut_where_they_pass_the_camera() -> None:
    """One box around the camera, one behind it: what is nearer than 0.1 m is gone, and the rest is where it was."""
    boxes = np.array([[1.0, 0, 0, 4, 2, 2, 0], [-10.0, 0, 0, 2, 2, 2, 0]])
    ends, box = edges_in_image(corners(boxes), PLAIN, np.eye(3))
    assert (box == 0).all() and len(ends) == 8  # four edges ahead, four that come from behind
    assert np.abs(ends).max() == pytest.approx(1 / 0.1)
    assert np.abs(ends).min() == pytest.approx(1 / 3)
    nothing, none = edges_in_image(np.empty((0, 8, 3)), PLAIN, np.eye(3))
    assert nothing.shape == (0, 2, 2) and len(none) == 0


def test_wrap_angle() -> None:
    np.testing.assert_allclose(wrap_angle([0, math.pi, -math.pi, 3.5 * math.pi]), [0, -math.pi, -math.pi, -math.pi / 2])
