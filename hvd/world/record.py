"""Recording a drive: every sensor at its own time stamp, with the poses that relate them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvd.pool import doing
from hvd.world.config import WorldConfig
from hvd.world.materials import Split
from hvd.world.mesh import F64
from hvd.world.rigs import Rig, build_rig
from hvd.world.scene import Scene, draw_scene
from hvd.world.sensors import Cloud, photograph, sweep
from hvd.world.textures import build_atlas

_SPLITS: tuple[Split, ...] = ("train", "val")
_RIGS = ("nuscenes", "kitti", "kitti-object")  # by number: it enters the seeds


@dataclass(frozen=True)
class Frame:
    """One key frame: a turn of the LiDAR and a picture of every camera."""

    time_s: float  # the LiDAR's time stamp
    cloud: Cloud
    world_from_ego: F64  # (4, 4) at the LiDAR's time stamp
    images: tuple[NDArray[np.uint8], ...]  # (H, W, 3) a camera
    world_from_ego_camera: tuple[F64, ...]  # (4, 4) at each camera's time stamp


@dataclass(frozen=True)
class Drive:
    """A scene with the rig that recorded it."""

    scene: Scene
    rig: Rig


def scene_rng(config: WorldConfig, split: Split, index: int) -> np.random.Generator:
    """The generator of one drive, from the seed and the drive's place alone."""
    return np.random.default_rng([config.seed, _SPLITS.index(split), index, _RIGS.index(config.rig)])


def draw_drive(config: WorldConfig, split: Split, index: int) -> Drive:
    """The scene and rig of drive number `index` of a split."""
    rng = scene_rng(config, split, index)
    return Drive(draw_scene(split, rng, config.duration_s, busy=config.rig == "kitti-object"), build_rig(config, rng))


def record(config: WorldConfig, drive: Drive, key_frame: int, number: int) -> Frame:
    """A key frame of drive `number`; its noise draws from the seed and these two."""
    doing(f"drive {number}, frame {key_frame}")
    rng = np.random.default_rng([config.seed, number, key_frame])
    atlas, scene, rig = build_atlas(config.seed), drive.scene, drive.rig
    time_s = key_frame * config.frame_interval_s
    pose = scene.world_from_ego(time_s)
    cloud = sweep(rig.lidar, pose @ rig.lidar.ego_from_lidar, scene.stage(time_s), atlas, rng)
    images, poses = [], []
    for camera in rig.cameras:
        moment = time_s + camera.delay_s
        poses.append(scene.world_from_ego(moment))
        stage, view = scene.stage(moment), poses[-1] @ camera.ego_from_camera
        images.append(photograph(camera, view, stage, scene.light, atlas, config.antialias, rng))
    return Frame(time_s, cloud, pose, tuple(images), tuple(poses))
