"""The format of KITTI's object benchmark: sweeps, pictures, calibrations and labels, one file a frame."""

from pathlib import Path
from typing import TypedDict

import numpy as np

from hvd.datasets.kitti_files import Calibration, format_calibration, write_objects
from hvd.geometry.se3 import inverse
from hvd.world.annotate import annotate
from hvd.world.config import WorldConfig
from hvd.world.drives import frame_name
from hvd.world.files import write_array, write_image
from hvd.world.materials import Split
from hvd.world.record import Drive, draw_drive, record
from hvd.world.rigs import Rig

FOLDERS = ("velodyne", "image_2", "calib", "label_2")


class DriveRecord(TypedDict):
    """What a drive leaves behind: the frames' names."""

    frames: list[str]


def prepare_folders(out: Path) -> None:
    """Make the folders that drives write to."""
    for name in FOLDERS:
        (out / "training" / name).mkdir(parents=True, exist_ok=True)


def write_drive(config: WorldConfig, split: Split, index: int, number: int, out: Path) -> DriveRecord:
    """Record one drive and write its files."""
    drive = draw_drive(config, split, index)
    names = [frame_name(config, number, key_frame) for key_frame in range(config.frames_per_scene)]
    for key_frame, name in enumerate(names):
        _write_frame(config, drive, key_frame, number, out / "training", name)
    return {"frames": names}


def _write_frame(config: WorldConfig, drive: Drive, key_frame: int, number: int, folder: Path, name: str) -> None:
    frame, rig = record(config, drive, key_frame, number), drive.rig
    calibration = calibrate(rig)
    lidar, camera = frame.world_from_ego @ rig.lidar.ego_from_lidar, rig.cameras[0]
    view = frame.world_from_ego_camera[0] @ camera.ego_from_camera
    objects = annotate(drive.scene, frame.time_s + camera.delay_s, lidar, camera, view, calibration)
    level = np.round(frame.cloud.intensity, 2)[:, None]
    write_array(folder / "velodyne" / f"{name}.bin", np.concatenate([frame.cloud.point, level], 1).astype(np.float32))
    write_image(folder / "image_2" / f"{name}.png", frame.images[0])
    (folder / "calib" / f"{name}.txt").write_text(format_calibration(calibration), encoding="ascii")
    write_objects(folder / "label_2" / f"{name}.txt", objects)


def calibrate(rig: Rig) -> Calibration:
    """The rig's calibration: its camera is the reference camera too, so labels live in the camera's frame."""
    camera = rig.cameras[0]
    projection = np.concatenate([camera.intrinsics, np.zeros((3, 1))], axis=1)
    return Calibration(projection, inverse(camera.ego_from_camera) @ rig.lidar.ego_from_lidar)
