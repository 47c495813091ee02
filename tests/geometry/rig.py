"""A made-up camera rig and sweep, and the recorded nuScenes frame, for the geometry tests."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvd.datasets.nuscenes import open_nuscenes
from hvd.geometry.se3 import from_quaternion, inverse


@dataclass(frozen=True)
class Rig:
    points: np.ndarray  # (N, 3) f32
    camera_from_lidar: np.ndarray  # (K, 4, 4)
    intrinsics: np.ndarray  # (K, 3, 3)
    width: int
    height: int


def made_up(seed: int = 0, num_points: int = 6000, cameras: int = 6) -> Rig:
    """Cameras that look outwards all around, slightly tilted, each a little off the LiDAR; points around them."""
    rng = np.random.default_rng(seed)
    poses = np.stack([_camera_from_lidar(2 * np.pi * k / cameras, rng) for k in range(cameras)])
    intrinsics = np.stack(
        [[[rng.uniform(250, 400), 0, 300 + rng.normal()], [0, rng.uniform(250, 400), 160], [0, 0, 1]] for _ in poses]
    )
    points = rng.uniform([-60, -60, -4], [60, 60, 4], (num_points, 3)).astype(np.float32)
    return Rig(points, poses, intrinsics, 640, 360)


def _camera_from_lidar(yaw: float, rng: np.random.Generator) -> np.ndarray:
    lidar_from_body = from_quaternion([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], rng.normal(0, 0.5, 3))
    looking_along_x = from_quaternion([0.5, -0.5, 0.5, -0.5], [0, 0, 0])  # z forward, x right, y down
    tilt = np.array([1.0, 0.0, 0.0, 0.0]) + rng.normal(0, 0.02, 4)
    tilted = from_quaternion(tilt / np.linalg.norm(tilt), [0, 0, 0])
    return inverse(lidar_from_body @ looking_along_x @ tilted)


def recorded(root: Path) -> Rig:
    """The real frame."""
    data = open_nuscenes(root, "v1.0-mini")
    sample = data.samples[0]
    return Rig(
        data.read_points(sample)[:, :3],
        np.stack([view.camera_from_lidar for view in sample.cameras]),
        np.stack([view.intrinsics for view in sample.cameras]),
        sample.cameras[0].width,
        sample.cameras[0].height,
    )
