"""The two sensor rigs: where LiDAR and cameras sit, how they look, when they fire. Frames: ego x forward, y left, z up.

nuScenes-like: positions, directions, focal lengths and time stamps after the calibration and one published key frame.
KITTI-like: the HDL-64E's two blocks of beams and the left colour camera of the odometry data.
"""

from dataclasses import dataclass, replace

import numpy as np

from hvd.world.config import WorldConfig
from hvd.world.mesh import F64, rotation

# camera axes (x right, y down, z ahead) in a body that looks along its x axis
_BODY_FROM_CAMERA = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR and its echoes."""

    ego_from_lidar: F64  # (4, 4)
    elevation: F64  # (beams,) radians, lowest first
    columns: int  # azimuth steps of a turn
    clockwise: bool  # direction of the turn, seen from above
    max_range_m: float
    noise_m: float  # deviation of the range
    dropout: float  # share of echoes lost whatever they hit
    gain: float  # intensity of a white wall hit head-on at 10 m, in 0..1
    gamma: float  # response of the receiver
    falloff: float  # exponent of range in the intensity


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; the centre of its top-left pixel is (0, 0)."""

    name: str
    ego_from_camera: F64  # (4, 4)
    intrinsics: F64  # (3, 3)
    width: int
    height: int
    delay_s: float  # time stamp after the LiDAR's


@dataclass(frozen=True)
class Rig:
    """All sensors of one vehicle."""

    lidar: Lidar
    cameras: tuple[Camera, ...]


# name: x, y, z in metres, yaw in degrees, focal length as a share of the width, time after the LiDAR's stamp in seconds
_NUSCENES_CAMERAS = {
    "CAM_FRONT": (1.70, 0.016, 1.51, 0.0, 1266 / 1600, -0.035),
    "CAM_FRONT_RIGHT": (1.55, -0.493, 1.50, -56.0, 1261 / 1600, -0.028),
    "CAM_BACK_RIGHT": (1.01, -0.481, 1.56, -111.0, 1260 / 1600, -0.020),
    "CAM_BACK": (0.03, 0.003, 1.58, 180.0, 809 / 1600, -0.010),
    "CAM_BACK_LEFT": (1.04, 0.485, 1.59, 108.5, 1257 / 1600, -0.001),
    "CAM_FRONT_LEFT": (1.52, 0.495, 1.51, 55.0, 1273 / 1600, -0.043),
}


def build_rig(config: WorldConfig, rng: np.random.Generator) -> Rig:
    """The rig of a config; the nuScenes-like one differs a little from drive to drive, as calibrations do."""
    return _nuscenes_rig(config, rng) if config.rig == "nuscenes" else _kitti_rig(config)


def mounted(x: float, y: float, z: float, turn: F64) -> F64:
    """(4, 4) transform of a position and a (3, 3) rotation."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, (x, y, z)
    return matrix


def _camera(
    name: str, place: tuple[float, float, float], turn: F64, focal: float, width: int, height: int, delay_s: float
) -> Camera:
    # The principal point in the middle of the image: (width - 1) / 2 when pixel centres have whole numbers.
    intrinsics = np.array([[focal * width, 0, (width - 1) / 2], [0, focal * width, (height - 1) / 2], [0, 0, 1]])
    return Camera(name, mounted(*place, turn @ _BODY_FROM_CAMERA), intrinsics, width, height, delay_s)


def _nuscenes_rig(config: WorldConfig, rng: np.random.Generator) -> Rig:
    cameras = []
    for name, (x, y, z, yaw, focal, delay) in _NUSCENES_CAMERAS.items():
        turn = rotation(*np.radians(np.array([yaw, 0, 0]) + rng.normal(0, 0.6, 3)))
        place = (x, y, z + float(rng.normal(0, 0.02)))
        focal = focal * float(rng.normal(1, 0.003))
        cameras.append(_camera(name, place, turn, focal, config.image_width, config.image_height, delay))
    turn = rotation(*np.radians(np.array([-90, 0, 0]) + rng.normal(0, 0.4, 3)))
    lidar = Lidar(
        ego_from_lidar=mounted(0.94, 0.0, 1.84 + float(rng.normal(0, 0.02)), turn),
        elevation=np.radians(np.linspace(-30.67, 10.67, 32)),
        columns=config.lidar_columns,
        clockwise=True,
        max_range_m=80.0,
        noise_m=0.02,
        dropout=0.03,
        gain=0.35,
        gamma=1.0,
        falloff=0.6,
    )
    return Rig(lidar, tuple(_centred(camera, rng) for camera in cameras))


def _centred(camera: Camera, rng: np.random.Generator) -> Camera:
    """The same camera with its principal point off the middle by about a percent, as real ones are."""
    shift = rng.normal(0, 0.01, 2) * [camera.width, camera.height]
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] += shift
    return replace(camera, intrinsics=intrinsics)


def _kitti_rig(config: WorldConfig) -> Rig:
    upper = np.linspace(-8.33, 2.0, 32)
    lower = np.linspace(-24.8, -8.83, 32)
    lidar = Lidar(
        ego_from_lidar=mounted(0.0, 0.0, 1.73, np.eye(3)),
        elevation=np.radians(np.concatenate([lower, upper])),
        columns=config.lidar_columns,
        clockwise=False,
        max_range_m=80.0,
        noise_m=0.012,
        dropout=0.08,
        gain=0.75,
        gamma=0.6,
        falloff=0.3,
    )
    camera = _camera(
        "image_2", (0.27, 0.0, 1.65), np.eye(3), 721.5 / 1242, config.image_width, config.image_height, 0.0
    )
    return Rig(lidar, (camera,))
