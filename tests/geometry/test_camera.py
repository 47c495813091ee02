"""Projection against arithmetic by hand, against itself the slow way, and the image matrices."""

import numpy as np
import pytest
import torch

from hvd.geometry import camera
from hvd.geometry.camera import Pairs, cell_centres, crop, flip, in_image, pair_points, project, resize, warp
from tests.geometry.rig import Rig, made_up

INTRINSICS = np.array([[100.0, 0.0, 50.0], [0.0, 200.0, 40.0], [0.0, 0.0, 1.0]])


def test_project_by_hand() -> None:
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3, 3] = [1.0, 0.0, 2.0]
    uv, depth = project(np.array([[1.0, 3.0, 2.0]], dtype=np.float32), camera_from_lidar, INTRINSICS)
    assert depth.tolist() == [4.0]
    assert uv.tolist() == [[100 * 2 / 4 + 50, 200 * 3 / 4 + 40]]


def test_in_image_by_hand() -> None:
    uv = np.array([[1.0, 5.0], [1.1, 5.0], [8.9, 5.0], [9.0, 5.0], [5.0, 1.0], [5.0, 6.9], [5.0, 7.0], [5.0, 5.0]])
    depth = np.array([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    assert in_image(uv, depth, 10, 8).tolist() == [False, True, True, False, False, True, False, False]


def slow_pairs(rig: Rig) -> Pairs:
    """`pair_points` with nothing left out: every point through every camera in float64."""
    found = []
    for k, (pose, intrinsics) in enumerate(zip(rig.camera_from_lidar, rig.intrinsics, strict=True)):
        with np.errstate(invalid="ignore"):
            uv, depth = project(rig.points, pose, intrinsics)
            point = np.flatnonzero(in_image(uv, depth, rig.width, rig.height) & np.isfinite(rig.points).all(1))
        found.append((point, np.full(len(point), k), uv[point], depth[point]))
    point, number, uv, depth = (np.concatenate(column) for column in zip(*found, strict=True))
    return Pairs(point.astype(np.int32), number.astype(np.uint8), uv.astype(np.float32), depth.astype(np.float32))


def assert_same(ours: Pairs, theirs: Pairs) -> None:
    for name in ("point", "camera", "uv", "depth"):
        got, expected = getattr(ours, name), getattr(theirs, name)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected, err_msg=name)


def run(rig: Rig) -> Pairs:
    return pair_points(rig.points, rig.camera_from_lidar, rig.intrinsics, rig.width, rig.height)


@pytest.mark.parametrize("block", [97, 65536])
def test_pairs_equal_the_slow_way(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(camera, "_BLOCK", block)
    for seed in range(3):
        rig = made_up(seed)
        expected = slow_pairs(rig)
        assert len(expected) > 1000
        assert_same(run(rig), expected)


@pytest.mark.parametrize("reach", [1.0, 1e3, 1e5])
def test_points_on_the_border_are_decided_in_float64(reach: float) -> None:
    """Points within a few float32 roundings of every border of the frustum."""
    rng = np.random.default_rng(5)
    rig = made_up(cameras=1)
    lidar_from_camera = np.linalg.inv(rig.camera_from_lidar[0])
    edge = rng.choice([0.0, 0.5, 1.0], (4000, 2)) * [rig.width - 3, rig.height - 3] + 1.0
    depth = rng.choice([1.0, reach], 4000) * (1 + rng.normal(0, 1e-7, 4000))
    rays = np.c_[edge, np.ones(4000)] @ np.linalg.inv(rig.intrinsics[0]).T * depth[:, None]
    points = rays @ lidar_from_camera[:3, :3].T + lidar_from_camera[:3, 3]
    border = Rig(points.astype(np.float32), rig.camera_from_lidar, rig.intrinsics, rig.width, rig.height)
    expected = slow_pairs(border)
    assert 400 < len(expected) < 3600
    assert_same(run(border), expected)


def test_points_that_are_not_finite_never_pair() -> None:
    rig = made_up()
    pairs = slow_pairs(rig)
    rng = np.random.default_rng(0)
    rig.points[pairs.point[:60], rng.integers(0, 3, 60)] = rng.choice([np.nan, np.inf, -np.inf], 60)
    assert_same(run(rig), slow_pairs(rig))
    assert np.isfinite(rig.points[run(rig).point]).all()
    assert np.isfinite(run(rig).uv).all()


def test_one_infinite_point_hides_no_other() -> None:
    """A camera along the axes: its matrix holds zeros, and zero times infinity is no number."""
    points = np.array([[0.1, 0.0, 5.0], [np.inf, 0.0, 5.0], [0.0, -np.inf, 5.0], [0.0, 0.0, np.inf]], np.float32)
    pairs = pair_points(points, np.eye(4)[None], INTRINSICS[None], 100, 80)
    assert pairs.point.tolist() == [0]


def test_no_points_and_no_cameras() -> None:
    rig = made_up()
    empty = pair_points(np.empty((0, 3), np.float32), rig.camera_from_lidar, rig.intrinsics, 640, 360)
    blind = pair_points(rig.points, np.empty((0, 4, 4)), np.empty((0, 3, 3)), 0, 0)
    for pairs in (empty, blind):
        assert len(pairs) == 0
        assert pairs.uv.shape == (0, 2)


def test_resize_keeps_the_corners_of_the_pixel_grid() -> None:
    """An image spans [-0.5, width - 0.5]; so does a resized one."""
    corners = np.array([[-0.5, -0.5], [1600 - 0.5, 900 - 0.5]])
    np.testing.assert_allclose(warp(resize(416 / 1600, 224 / 900), corners), [[-0.5, -0.5], [415.5, 223.5]])


def test_crop_and_flip_by_hand() -> None:
    assert warp(crop(10, 20), np.array([[10.0, 20.0]])).tolist() == [[0, 0]]
    assert warp(flip(416), np.array([[0.0, 7.0], [415.0, 7.0]])).tolist() == [[415, 7], [0, 7]]


def test_warp_composes_like_matrices() -> None:
    uv = np.random.default_rng(0).uniform(0, 100, (3, 5, 2))
    one_by_one = warp(flip(50), warp(resize(0.3, 0.7), warp(crop(4, 9), uv)))
    at_once = flip(50) @ resize(0.3, 0.7) @ crop(4, 9)
    np.testing.assert_allclose(warp(at_once, uv), one_by_one)
    np.testing.assert_allclose(warp(torch.from_numpy(at_once), torch.from_numpy(uv)).numpy(), one_by_one)


def test_cell_centres_are_resized_pixels() -> None:
    """A feature map of stride s is the image resized by 1 / s: its pixel j lies at cell centre j."""
    centres = cell_centres(28, 8)
    assert centres[:2].tolist() == [3.5, 11.5]
    warped = warp(resize(1 / 8, 1 / 8), np.stack([centres, centres], axis=1))
    np.testing.assert_allclose(warped[:, 0], np.arange(28), atol=1e-12)
