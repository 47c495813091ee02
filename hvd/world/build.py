"""Writing a world: drives in parallel, each from its own seed, then what they share; restartable by drive."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from cache import disk
from hvd.pool import doing, run_all
from hvd.world import kitti_object_writer, kitti_writer, nuscenes_writer
from hvd.world.config import RigName, WorldConfig
from hvd.world.drives import splits
from hvd.world.materials import Split
from hvd.world.rigs import build_rig

_WRITERS: dict[RigName, ModuleType] = {
    "nuscenes": nuscenes_writer,
    "kitti": kitti_writer,
    "kitti-object": kitti_object_writer,
}


class _Job(NamedTuple):
    config: WorldConfig
    split: Split
    place: int  # of the drive in its split
    number: int  # over both splits
    out: Path


def write_world(config: WorldConfig, out: Path, notes: Path, workers: int) -> None:
    """Write a world under `out`, in the format of its rig's data set.

    The bytes depend on the config, not on the number of workers; on a CPU with other vector instructions NumPy may
    round the last digit of a few poses otherwise. A finished drive leaves its record in `notes`, and is kept if the
    same world is written again with the same `notes`, which are of one config.

    Raises:
        ResourceError: a worker process died or hangs.
    """
    jobs = _jobs(config, out)
    notes.mkdir(parents=True, exist_ok=True)
    _prepare_folders(config, out)
    records = run_all(partial(_drive, notes), jobs, workers, f"world ({config.rig})")
    if config.rig == "nuscenes":
        nuscenes_writer.write_tables(config, records, _channels(config), out)
    elif config.rig == "kitti":
        kitti_writer.write_texts(config, records, out)
    (out / "splits.json").write_text(json.dumps(splits(config), indent=1))


def about_bytes(config: WorldConfig) -> int:
    """About what a world takes on the disk: 21 bytes a ray with its label, and 1.3 a pixel as measured."""
    rig = build_rig(config, np.random.default_rng(0))
    rays = len(rig.lidar.elevation) * rig.lidar.columns
    pixels = sum(camera.width * camera.height for camera in rig.cameras)
    return int((config.train_scenes + config.val_scenes) * config.frames_per_scene * (21 * rays + 1.3 * pixels))


def _prepare_folders(config: WorldConfig, out: Path) -> None:
    if config.rig == "nuscenes":
        nuscenes_writer.prepare_folders(out, _channels(config))
    elif config.rig == "kitti":
        kitti_writer.prepare_folders(config, out)
    else:
        kitti_object_writer.prepare_folders(out)


def _channels(config: WorldConfig) -> list[str]:
    return ["LIDAR_TOP", *(camera.name for camera in build_rig(config, np.random.default_rng(0)).cameras)]


def _jobs(config: WorldConfig, out: Path) -> list[_Job]:
    train = [_Job(config, "train", i, i, out) for i in range(config.train_scenes)]
    return train + [_Job(config, "val", i, config.train_scenes + i, out) for i in range(config.val_scenes)]


def _drive(notes: Path, job: _Job) -> Any:
    """One drive, or its record if it is there already."""
    doing(f"drive {job.number}")
    note = notes / f"{job.number:05d}.json"
    if note.exists():
        return json.loads(note.read_text())
    with threadpool_limits(1):  # one thread a worker, and sums in one order
        made: Mapping[str, Any] = _WRITERS[job.config.rig].write_drive(*job)
    disk.write_whole(note, json.dumps(made).encode(), "drive")
    return made
