"""Augmentation of points with boxes: nothing leaves its box, nothing overlaps, the same draw gives the same bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity, geometry

from hvd.datasets.box_augment import (
    BoxScene,
    build_database,
    draw_scene_matrix,
    find_free,
    move_scene,
    sample_objects,
)
from hvd.datasets.box_augment_config import BoxAugmentation, ObjectSampling
from hvd.geometry.boxes import points_in_boxes
from hvd.training.seeding import numpy_generator

NAMES = ("Car", "Pedestrian", "Cyclist")
ALL = BoxAugmentation(rotation_deg=45.0, scale=(0.95, 1.05), flip_y=True)
SAMPLING = ObjectSampling(up_to=(("Car", 6), ("Pedestrian", 4), ("Cyclist", 2)), min_points=5)
seeds = st.integers(0, 10_000)


def scene_of(seed: int, token: str = "scene", boxes: int = 6, span: float = 25.0) -> BoxScene:
    """Boxes apart from each other with 0 to 11 points well inside each, ignored ones, and points all over."""
    rng = np.random.default_rng(seed)
    apart = np.empty((0, 7))
    while len(apart) < boxes + 2:
        place = [*rng.uniform([2, -span, -2], [2 + 2 * span, span, 0]), *rng.uniform([3, 1, 1], [5, 2, 2])]
        candidate = np.array([*place, rng.uniform(-np.pi, np.pi)])
        if find_free(candidate[None], apart):  # which a test below asks shapely about
            apart = np.concatenate([apart, candidate[None]])
    local = [rng.uniform(-0.45, 0.45, (rng.integers(1, 12), 3)) * box[3:6] for box in apart]
    inside = [box[:3] + turned(points, box[6]) for points, box in zip(local, apart, strict=True)]
    xyz = np.concatenate([rng.uniform([0, -span, -3], [2 * span, span, 1], (300, 3)), *inside])
    points = np.concatenate([xyz, rng.uniform(0, 1, (len(xyz), 1))], axis=1).astype(np.float32)
    return BoxScene(token, points, apart[:boxes], rng.integers(0, 3, boxes), apart[boxes:])


def turned(points: np.ndarray, yaw: float) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def polygon(box: np.ndarray) -> geometry.Polygon:
    x, y, _, length, width, _, yaw = box
    plain = geometry.box(-length / 2, -width / 2, length / 2, width / 2)
    return affinity.translate(affinity.rotate(plain, yaw, origin=(0, 0), use_radians=True), x, y)


def polygons_hit(box: np.ndarray, others: np.ndarray) -> bool:
    near = [other for other in others if np.hypot(*(other[:2] - box[:2])) < 12]  # no box is longer
    return any(polygon(box).intersection(polygon(other)).area > 1e-9 for other in near)


@settings(max_examples=12, deadline=None)
@given(seeds, seeds)
def test_points_and_boxes_move_together(seed, draw):
    """Each box keeps its points; points nearer to a face than rounding aside, of which there are none here."""
    scene = scene_of(seed)
    moved = move_scene(scene, draw_scene_matrix(ALL, np.random.default_rng(draw)))
    for before, after in ((scene.boxes, moved.boxes), (scene.ignored, moved.ignored)):
        members = points_in_boxes(scene.points, before)
        np.testing.assert_array_equal(members, points_in_boxes(moved.points, after))
        assert members.any()
    np.testing.assert_array_equal(moved.points[:, 3], scene.points[:, 3])


def test_every_part_of_the_move_is_drawn_within_its_limits():
    matrices = np.stack([draw_scene_matrix(ALL, np.random.default_rng(seed)) for seed in range(300)])
    scale = np.cbrt(np.abs(np.linalg.det(matrices[:, :3, :3])))
    mirrored = np.linalg.det(matrices[:, :3, :3]) < 0
    angle = np.degrees(np.arctan2(np.where(mirrored, -1, 1) * matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.95 <= scale.min() < 0.96 and 1.04 < scale.max() <= 1.05
    assert -45 <= angle.min() < -42 and 42 < angle.max() <= 45
    assert 110 < mirrored.sum() < 190
    assert not matrices[:, :3, 3].any()


def test_a_camera_never_looks_back_after_the_move():
    """y is mirrored, x is not: what lies ahead stays ahead."""
    flip = BoxAugmentation(flip_y=True)
    for seed in range(20):
        assert draw_scene_matrix(flip, np.random.default_rng(seed))[0, 0] == 1.0


def test_no_move_is_the_identity():
    np.testing.assert_array_equal(draw_scene_matrix(BoxAugmentation(), np.random.default_rng(0)), np.eye(4))


@settings(max_examples=12, deadline=None)
@given(seeds, seeds)
def test_sampled_scenes(seed, draw):
    """No two boxes overlap (shapely is asked), pasted boxes hold their points and no others, the rest is as it was."""
    scene = scene_of(seed)
    database = build_database([scene_of(seed + 1 + n, f"other-{n}", span=12.0) for n in range(2)], 3, 5)
    sampled = sample_objects(scene, database, NAMES, SAMPLING, np.random.default_rng(draw))
    everything = np.concatenate([sampled.boxes, sampled.ignored])
    for row, box in enumerate(everything):
        assert not polygons_hit(box, everything[row + 1 :])

    own = len(scene.boxes)
    np.testing.assert_array_equal(sampled.boxes[:own], scene.boxes)
    np.testing.assert_array_equal(sampled.classes[:own], scene.classes)
    np.testing.assert_array_equal(sampled.ignored, scene.ignored)
    entries = {tuple(entry.box): entry for found in database for entry in found}
    for box, members in zip(sampled.boxes[own:], points_in_boxes(sampled.points, sampled.boxes[own:]), strict=True):
        expected = entries[tuple(box)].points
        np.testing.assert_array_equal(sampled.points[members], expected)
        assert len(expected) >= 5

    pasted = points_in_boxes(scene.points, sampled.boxes[own:]).any(axis=0)
    np.testing.assert_array_equal(sampled.points[: (~pasted).sum()], scene.points[~pasted])
    counts = np.bincount(sampled.classes, minlength=3)
    limits = np.maximum([6, 4, 2], np.bincount(scene.classes, minlength=3))
    assert (counts <= limits).all()


def test_objects_are_put_in_up_to_the_number_wished_for():
    """Ten of each class stand in three rows, apart from each other."""
    spots = [(x, y) for y in (-8.0, 0.0, 8.0) for x in range(10, 70, 6)]
    boxes = np.array([[x, y, -1.0, 4.0, 2.0, 1.5, 0.3] for x, y in spots])
    points = np.concatenate([np.tile(boxes[:, :3], (5, 1)), np.ones((150, 1))], axis=1)
    full = BoxScene("full", points, boxes, np.repeat([0, 1, 2], 10), np.empty((0, 7)))
    empty = BoxScene("empty", points[:0], boxes[:0], np.empty(0, np.int64), boxes[:0])
    sampled = sample_objects(empty, build_database([full], 3, 5), NAMES, SAMPLING, np.random.default_rng(0))
    assert np.bincount(sampled.classes).tolist() == [6, 4, 2] and len(sampled.points) == 5 * 12
    with_four_cars = BoxScene("cars", points[:0], boxes[:4], np.zeros(4, np.int64), boxes[20:])
    sampled = sample_objects(with_four_cars, build_database([full], 3, 5), NAMES, SAMPLING, np.random.default_rng(0))
    assert np.bincount(sampled.classes, minlength=3)[1:].tolist() == [4, 0], "the cyclists' places are taken"
    assert 4 <= (sampled.classes == 0).sum() <= 6
    assert sample_objects(empty, ((), (), ()), NAMES, SAMPLING, np.random.default_rng(0)) is empty


def test_a_frame_gets_no_second_copy_of_its_own_object():
    scene = scene_of(3)
    sampled = sample_objects(scene, build_database([scene], 3, 1), NAMES, SAMPLING, np.random.default_rng(0))
    np.testing.assert_array_equal(sampled.boxes, scene.boxes)


@pytest.mark.parametrize(("shift", "expected"), [(3.99, True), (4.01, False)])
def test_boxes_hit_by_hand(shift, expected):
    box = np.array([10.0, 0, 0, 4, 2, 1, 0])
    other = np.array([10.0 + shift, 0, 50, 4, 2, 1, 0])  # heights don't matter: nothing stands above a car
    assert find_free(box[None], other[None]) == ([] if expected else [0])
    assert find_free(np.stack([box, other]), np.empty((0, 7))) == ([0] if expected else [0, 1]), "the first is taken"
    assert find_free(np.stack([box, other]), box[None]) == ([] if expected else [1])
    assert find_free(np.empty((0, 7)), box[None]) == []


def test_the_database_takes_objects_with_enough_points_only():
    scene = scene_of(5)
    counts = points_in_boxes(scene.points, scene.boxes).sum(axis=1)
    database = build_database([scene], 3, 5)
    assert sum(map(len, database)) == (counts >= 5).sum() and (counts < 5).any()
    for label, entries in enumerate(database):
        for entry in entries:
            assert scene.classes[(scene.boxes == entry.box).all(axis=1)].tolist() == [label]
            assert points_in_boxes(entry.points, entry.box[None]).all()


def test_the_same_draw_gives_the_same_bits_and_changes_no_argument():
    scene = scene_of(1)
    kept = (scene.points.copy(), scene.boxes.copy())
    database = build_database([scene_of(n, f"other-{n}") for n in range(2, 5)], 3, 5)

    def draw(*parts: int) -> BoxScene:
        rng = numpy_generator(*parts)
        return move_scene(sample_objects(scene, database, NAMES, SAMPLING, rng), draw_scene_matrix(ALL, rng))

    one, again, other = draw(0, 5, 1), draw(0, 5, 1), draw(0, 6, 1)
    assert one.points.tobytes() == again.points.tobytes() and one.boxes.tobytes() == again.boxes.tobytes()
    assert one.boxes.tobytes() != other.boxes.tobytes()
    np.testing.assert_array_equal(scene.points, kept[0])
    np.testing.assert_array_equal(scene.boxes, kept[1])
