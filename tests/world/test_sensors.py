"""Cameras and LiDAR see one world: depth, label and place agree across time stamps."""

from dataclasses import replace

import numpy as np
import pytest

from hvd.geometry.camera import pair_points
from hvd.world.config import WorldConfig, smoke_world
from hvd.world.materials import Surface
from hvd.world.mesh import quads
from hvd.world.raycast import Stage, body
from hvd.world.record import Drive, draw_drive, record
from hvd.world.rigs import Lidar, build_rig
from hvd.world.sensors import _echo, camera_rays, sweep
from hvd.world.textures import build_atlas


@pytest.fixture(scope="module")
def config() -> WorldConfig:
    return smoke_world("nuscenes", seed=1)


@pytest.fixture(scope="module")
def drive(config: WorldConfig) -> Drive:
    return draw_drive(config, "train", 0)


def _camera_from_lidar(drive: Drive, time_s: float) -> np.ndarray:
    """(K, 4, 4) with the ego motion between the time stamps: what the tables' chain of poses gives."""
    scene, rig = drive.scene, drive.rig
    world_from_lidar = scene.world_from_ego(time_s) @ rig.lidar.ego_from_lidar
    views = [scene.world_from_ego(time_s + camera.delay_s) @ camera.ego_from_camera for camera in rig.cameras]
    return np.stack([np.linalg.inv(view) @ world_from_lidar for view in views])


def test_points_project_onto_what_the_cameras_see(config: WorldConfig, drive: Drive) -> None:
    """A ray through a standing point's pixel ends at the point's depth on the same kind, unless something hides it."""
    frame, scene, rig = record(config, drive, 1, 0), drive.scene, drive.rig
    standing = ~np.isin(frame.cloud.instance, [thing.number for thing in scene.things if thing.speed > 0])
    points, kind = frame.cloud.point[standing], frame.cloud.kind[standing]
    camera_from_lidar = _camera_from_lidar(drive, frame.time_s)
    intrinsics = np.stack([camera.intrinsics for camera in rig.cameras])
    pairs = pair_points(points, camera_from_lidar, intrinsics, config.image_width, config.image_height)
    agree, hidden, before = 0, 0, 0
    for number, camera in enumerate(rig.cameras):
        mine = pairs.camera == number
        moment = frame.time_s + camera.delay_s
        view = scene.world_from_ego(moment) @ camera.ego_from_camera
        ray = camera_rays(camera, pairs.uv[mine].astype(np.float64))
        start = np.broadcast_to(view[:3, 3].astype(np.float32), ray.shape).copy()
        stage = scene.stage(moment)
        hits = stage.cast(start, (ray @ view[:3, :3].T).astype(np.float32))
        depth = np.where(hits.triangle < 0, np.inf, hits.distance * ray[:, 2])
        error = depth - pairs.depth[mine]
        same = stage.attributes.kind[np.maximum(hits.triangle, 0)] == kind[pairs.point[mine]]
        agree += int((same & (np.abs(error) < 0.15)).sum())
        hidden += int((error < -0.15).sum())
        before += int((error > 0.15).sum())
    assert len(pairs) > 800
    assert agree > 0.8 * len(pairs)
    assert hidden < 0.2 * len(pairs)  # the cameras sit elsewhere than the LiDAR
    assert before < 0.04 * len(pairs)  # noise at the rims of things


def test_forgetting_the_ego_motion_would_show(drive: Drive) -> None:
    drive = replace(drive, scene=replace(drive.scene, ego=replace(drive.scene.ego, speed=10.0)))
    moving = _camera_from_lidar(drive, 0.5)
    still = np.stack(
        [np.linalg.inv(camera.ego_from_camera) @ drive.rig.lidar.ego_from_lidar for camera in drive.rig.cameras]
    )
    shift = np.linalg.norm(moving[:, :3, 3] - still[:, :3, 3], axis=1)
    assert shift.max() == pytest.approx(0.43, abs=0.03)  # 43 ms at 10 m/s
    assert shift.min() == pytest.approx(0.01, abs=0.01)


def test_pictures_show_the_nuscenes_layout(config: WorldConfig) -> None:
    rig = build_rig(config, np.random.default_rng(0))
    ahead = {camera.name: camera.ego_from_camera[:3, 2] for camera in rig.cameras}
    yaw = {name: np.degrees(np.arctan2(axis[1], axis[0])) for name, axis in ahead.items()}
    wanted = {
        "CAM_FRONT": 0,
        "CAM_FRONT_LEFT": 55,
        "CAM_BACK_LEFT": 108,
        "CAM_FRONT_RIGHT": -56,
        "CAM_BACK_RIGHT": -111,
    }
    assert all(abs(yaw[name] - degrees) < 4 for name, degrees in wanted.items())
    assert abs(abs(yaw["CAM_BACK"]) - 180) < 4
    width = {
        camera.name: 2 * np.degrees(np.arctan(config.image_width / 2 / camera.intrinsics[0, 0]))
        for camera in rig.cameras
    }
    assert width["CAM_FRONT"] == pytest.approx(65, abs=1.5)
    assert width["CAM_BACK"] == pytest.approx(89, abs=2)
    assert len({camera.delay_s for camera in rig.cameras}) == 6


def _plate(distance: float, reflectivity: float) -> Stage:
    """An upright plate of 40 x 40 m across +x."""
    look = np.array([7, 0, *[0.5] * 6, reflectivity, reflectivity, 0, 0], dtype=np.float32)
    surface = Surface((1, 1), (np.full(3, 0.5), np.full(3, 0.5)), look)
    corner = [[[distance, -20, -20], [distance, 20, -20], [distance, 20, 20], [distance, -20, 20]]]
    return Stage(body([(3, quads(np.array(corner), surface))]), None)


def _lidar(**changes: float) -> Lidar:
    rig = build_rig(smoke_world("kitti"), np.random.default_rng(0))
    return replace(rig.lidar, ego_from_lidar=np.eye(4), columns=720, **changes)


def test_lidar_measures_a_plate() -> None:
    lidar = _lidar(dropout=0.0, noise_m=0.0)
    cloud = sweep(lidar, np.eye(4), _plate(10.0, 0.5), build_atlas(0), np.random.default_rng(0))
    assert np.allclose(cloud.point[:, 0], 10.0, atol=1e-4)
    assert set(cloud.kind) == {7}
    assert set(cloud.instance) == {3}
    assert len(np.unique(cloud.ring)) == 64


def test_lidar_noise_and_lost_echoes() -> None:
    plate, atlas = _plate(10.0, 0.5), build_atlas(0)
    whole = sweep(_lidar(dropout=0.0, noise_m=0.0), np.eye(4), plate, atlas, np.random.default_rng(0))
    noisy = sweep(_lidar(dropout=0.25, noise_m=0.05), np.eye(4), plate, atlas, np.random.default_rng(0))
    assert len(noisy.point) == pytest.approx(0.75 * len(whole.point), rel=0.05)
    along = np.linalg.norm(noisy.point, axis=1)
    exact = 10.0 / (noisy.point[:, 0] / along)
    assert (along - exact).std() == pytest.approx(0.05, rel=0.1)


def test_intensity_depends_on_material_angle_and_range() -> None:
    lidar = _lidar()
    echo = np.array([[0.2, 0.2, 0, 0], [0.6, 0.6, 0, 0]], dtype=np.float32)
    mix = np.zeros(2, dtype=np.float32)

    def power(facing: float, distance: float) -> np.ndarray:
        return _echo(lidar, echo, mix, np.full(2, facing, np.float32), np.full(2, distance, np.float32))

    assert power(1.0, 10)[1] == pytest.approx(3 * power(1.0, 10)[0], rel=1e-4)
    assert (power(0.3, 10) < 0.7 * power(1.0, 10)).all()
    assert (power(1.0, 40) < power(1.0, 10)).all()
