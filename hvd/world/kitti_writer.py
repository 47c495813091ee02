"""The SemanticKITTI format: sequences with point clouds, labels, one camera, calibration, times and poses."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from hvd.geometry.se3 import inverse
from hvd.world.config import WorldConfig
from hvd.world.drives import sequences
from hvd.world.files import write_array, write_image
from hvd.world.kinds import kitti_ids
from hvd.world.materials import Split
from hvd.world.mesh import F64
from hvd.world.record import Frame, draw_drive, record
from hvd.world.rigs import Rig
from hvd.world.scene import Scene

_INSTANCES = 512  # numbers set aside for the things of one drive


class DriveRecord(TypedDict):
    """What a drive adds to its sequence's text files."""

    sequence: str
    first: int  # number of its first frame
    poses: list[list[list[float]]]  # (F, 4, 4) world_from_camera
    calibration: str


def prepare_folders(config: WorldConfig, out: Path) -> None:
    """Make the folders that drives write to."""
    for sequence in (*sequences(config, "train"), *sequences(config, "val")):
        for name in ("velodyne", "labels", "image_2"):
            (out / "sequences" / sequence / name).mkdir(parents=True, exist_ok=True)


def write_drive(config: WorldConfig, split: Split, index: int, number: int, out: Path) -> DriveRecord:
    """Record one drive, write its sensor files, and return what its sequence's text files need."""
    drive = draw_drive(config, split, index)
    sequence, drives = next((name, drives) for name, drives in sequences(config, split).items() if index in drives)
    position = drives.index(index)
    first, poses = position * config.frames_per_scene, []
    for key_frame in range(config.frames_per_scene):
        frame = record(config, drive, key_frame, number)
        _write_frame(frame, drive.scene, out / "sequences" / sequence, f"{first + key_frame:06d}", position)
        poses.append((frame.world_from_ego_camera[0] @ drive.rig.cameras[0].ego_from_camera).tolist())
    return {"sequence": sequence, "first": first, "poses": poses, "calibration": _calibration(drive.rig)}


def _write_frame(frame: Frame, scene: Scene, folder: Path, name: str, position: int) -> None:
    cloud = frame.cloud
    level = np.round(cloud.intensity, 2)[:, None]
    write_array(folder / "velodyne" / f"{name}.bin", np.concatenate([cloud.point, level], 1).astype(np.float32))
    moves = np.array([False, *(thing.speed > 0 for thing in scene.things)])[cloud.instance]
    semantic = np.where(moves, kitti_ids(moving=True)[cloud.kind], kitti_ids(moving=False)[cloud.kind])
    instance = np.where(cloud.instance > 0, cloud.instance + _INSTANCES * (position % 127), 0).astype(np.uint32)
    write_array(folder / "labels" / f"{name}.label", ((instance << np.uint32(16)) | semantic.astype(np.uint32)))
    write_image(folder / "image_2" / f"{name}.png", frame.images[0])


def _calibration(rig: Rig) -> str:
    """Text of calib.txt: one camera stands for all four, in one place with the reference camera."""
    camera = rig.cameras[0]
    projection = np.concatenate([camera.intrinsics, np.zeros((3, 1))], 1)
    camera_from_lidar = inverse(camera.ego_from_camera) @ rig.lidar.ego_from_lidar
    lines = [f"P{i}: {_numbers(projection)}" for i in range(4)]
    return "\n".join([*lines, f"Tr: {_numbers(camera_from_lidar[:3])}"]) + "\n"


def _numbers(matrix: F64) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.ravel())


def write_texts(config: WorldConfig, drives: Sequence[DriveRecord], out: Path) -> None:
    """Write calib.txt, times.txt and poses.txt of every sequence."""
    for sequence in sorted({drive["sequence"] for drive in drives}):
        mine = sorted((drive for drive in drives if drive["sequence"] == sequence), key=lambda drive: drive["first"])
        poses = _chained([np.array(drive["poses"]) for drive in mine])
        folder = out / "sequences" / sequence
        (folder / "calib.txt").write_text(mine[0]["calibration"])
        times = (f"{i * config.frame_interval_s:.6e}\n" for i in range(len(poses)))
        (folder / "times.txt").write_text("".join(times))
        (folder / "poses.txt").write_text("".join(f"{_numbers(pose[:3])}\n" for pose in poses))


def _chained(drives: Sequence[F64]) -> list[F64]:
    """Poses in the frame of the first camera; each drive goes on where the one before it would have gone next."""
    out: list[F64] = []
    start = np.eye(4)
    for world_from_camera in drives:
        first_from_world = inverse(world_from_camera[0])
        out += [start @ first_from_world @ pose for pose in world_from_camera]
        step = inverse(world_from_camera[-2]) @ world_from_camera[-1] if len(world_from_camera) > 1 else np.eye(4)
        start = out[-1] @ step
    return out
