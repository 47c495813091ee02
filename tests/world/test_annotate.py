"""Labels of KITTI's objects against answers by hand: walls before a camera at the origin that looks along x."""

import numpy as np
import pytest

from hvd.geometry.boxes import points_in_boxes
from hvd.world.annotate import OCCLUSION_LIMITS, Outline, occlusion_level, outline, tight_box
from hvd.world.materials import paint
from hvd.world.mesh import Mesh, box, moved, placed
from hvd.world.raycast import Stage, body
from hvd.world.rigs import Camera, mounted

AHEAD = mounted(0, 0, 0, np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
# 201 x 101 pixels: a metre at 10 m takes 10 pixels, and the axis meets the pixel (100, 50).
CAMERA = Camera("image_2", AHEAD, np.array([[100.0, 0, 100], [0, 100.0, 50], [0, 0, 1]]), 201, 101, 0.0)
SURFACE = paint(np.random.default_rng(0), "train", "metal")


def wall(distance: float, left: float, width: float, height: float = 2.0) -> Mesh:
    """Its face is `distance` metres ahead, from `left` metres to the left of the axis to the right; 5 cm thick."""
    return box((0.05, width, height), (distance + 0.025, left - width / 2, -height / 2), SURFACE)


def look(thing: Mesh, *others: Mesh, moving: bool = False) -> Outline | None:
    parts = [(number, mesh) for number, mesh in enumerate((thing, *others), 1)]
    stage = Stage(body(parts[1:]), body(parts[:1])) if moving else Stage(body(parts), None)
    return outline(1, thing, stage, CAMERA, AHEAD)


@pytest.mark.parametrize("moving", [False, True])
def test_a_wall_that_nothing_hides(moving: bool) -> None:
    """Two metres by two at 10 m, in the middle of the image."""
    found = look(wall(10, 1, 2), wall(20, 10, 20), moving=moving)
    assert found is not None
    np.testing.assert_allclose(found.box, [90, 40, 110, 60], atol=1e-4)
    assert (found.truncation, found.hidden) == (0, 0)
    assert found.visible_px == pytest.approx(400, rel=0.02)
    np.testing.assert_allclose(found.visible_box, found.box, atol=0.6)


@pytest.mark.parametrize(("share", "level"), [(0.05, 0), (0.25, 1), (0.5, 1), (0.7, 2), (0.9, 3)])
def test_what_another_thing_hides(share: float, level: int) -> None:
    """A metre at 5 m hides two at 10 m: the nearer wall ends where it hides `share` of the thing from the left."""
    right = 0.5 - share  # at 5 m, metres to the left of the axis; the thing spans 0.5 to -0.5 there
    hider = wall(5, right + 4, 4, height=3)
    found = look(wall(10, 1, 2), hider)
    assert found is not None
    assert found.hidden == pytest.approx(share, abs=0.03)
    assert found.visible_px == pytest.approx((1 - share) * 400, abs=17)  # a column of rays
    np.testing.assert_allclose(found.box, [90, 40, 110, 60], atol=1e-4)  # hidden parts included
    np.testing.assert_allclose(found.visible_box, [90 + 20 * share, 40, 110, 60], atol=1.1)
    if abs(share - 0.5) > 0.1:
        assert occlusion_level(found.hidden) == level


def test_a_thing_behind_a_wall_is_hidden_altogether() -> None:
    found = look(wall(10, 1, 2), wall(5, 10, 20, height=10))
    assert found is not None and found.hidden == 1 and found.visible_px == 0


def test_occlusion_levels_at_their_limits() -> None:
    below, above = (
        (occlusion_level(share - 1e-9) for share in OCCLUSION_LIMITS),
        map(occlusion_level, (0.11, 0.51, 0.81)),
    )
    assert list(below) == [0, 1, 2] and list(above) == [1, 2, 3]
    assert occlusion_level(0) == 0 and occlusion_level(1) == 3


@pytest.mark.parametrize(
    ("left", "width", "share"),
    [(12.0, 4.0, 0.5), (11.0, 4.0, 0.25), (-9.0, 4.0, 0.75)],  # the image's sides are 10 m off at 10 m
)
def test_truncation_of_a_wall_across_the_images_side(left: float, width: float, share: float) -> None:
    found = look(wall(10, left, width))
    assert found is not None
    assert found.truncation == pytest.approx(share, abs=0.02)
    assert found.hidden == 0
    assert found.box[0] == 0 if left > 0 else found.box[2] == 200


def test_truncation_counts_what_is_above_the_image_too() -> None:
    """From 5 m below the axis, where the image ends, to 15 m above it: half of the wall is above the image."""
    found = look(moved(wall(10, 1, 2, height=20), z=5))
    assert found is not None and found.truncation == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("mesh", [wall(10, 20, 2), wall(-10, 1, 2), moved(wall(10, 1, 2), z=30)])
def test_what_the_image_does_not_show_has_no_outline(mesh: Mesh) -> None:
    assert look(mesh) is None


def test_a_thing_that_reaches_behind_the_camera_is_cut() -> None:
    """A lorry beside the camera: 3 m to the left, from 10 m behind to 10 m ahead."""
    found = look(box((20, 0.1, 2), (0, 3, -1), SURFACE))
    assert found is not None
    np.testing.assert_allclose(found.box[[0, 2]], [0, 100 - 100 * 2.95 / 10], atol=1e-3)
    assert found.truncation > 0.8


@pytest.mark.parametrize("yaw", [0.0, 0.4, 2.5, -1.2])
def test_the_box_is_tight_and_heads_where_the_thing_does(yaw: float) -> None:
    world_from_lidar = mounted(3, -2, 1.7, moved_rotation(0.7))
    pose = mounted(12, 5, 0.2, moved_rotation(yaw))
    found = tight_box(placed(box((4.0, 1.8, 1.5), (0.3, 0, 0), SURFACE), pose), pose[:3, 0], world_from_lidar)
    inverse = np.linalg.inv(world_from_lidar)
    np.testing.assert_allclose(found[:3], (inverse @ pose @ [0.3, 0, 0.75, 1])[:3], atol=1e-5)
    np.testing.assert_allclose(found[3:6], [4.0, 1.8, 1.5], atol=1e-5)
    np.testing.assert_allclose(np.exp(1j * found[6]), np.exp(1j * (yaw - 0.7)), atol=1e-6)


def test_the_box_of_a_tilted_thing_stands_upright_around_it() -> None:
    pose = np.eye(4)
    pose[:3, :3] = [[0.98, 0.0, 0.199], [0.0, 1.0, 0.0], [-0.199, 0.0, 0.98]]
    mesh = placed(box((4.0, 1.8, 1.5), (0, 0, 0), SURFACE), pose)
    found = tight_box(mesh, pose[:3, 0], np.eye(4))
    corner = mesh.corner.reshape(-1, 3)
    slightly = found + np.array([0, 0, 0, 1e-4, 1e-4, 1e-4, 0])
    assert points_in_boxes(corner, slightly[None]).all()
    np.testing.assert_allclose(found[3:6], np.ptp(corner, axis=0), atol=1e-5)


def moved_rotation(yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
