"""Export: the student's features of every point of a split, as one HDF5 file for other programs.

P points of all frames together, C channels, F frames. A frame's points are in the order of its own sensor file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache.failpoint import failpoint
from cache.work import Work
from hvd import log
from hvd.datasets.labels import NUSCENES
from hvd.datasets.segmentation import SegmentationData, VoxelBatch
from hvd.datasets.student_voxels import build_voxelizer
from hvd.models.unet import SparseUNet
from hvd.models.voxelnet import VoxelNet
from hvd.training import seeding
from hvd.training.device import moved, pick_device
from stages import protocol
from stages.export import open_student
from stages.runtime import Runtime
from stages.selection import rows_of
from stages.specs import ExportFeaturesConfig

if TYPE_CHECKING:
    import h5py

FILE = "features.h5"
SCHEMA = 1
LAYOUT = (
    "feature (P, C) float16: one row a point, in the order of the sensor file, frame after frame; NaN where a point is "
    "{nowhere}. point_offset (F+1,) int64: frame i has the rows point_offset[i] to point_offset[i+1]. "
    "token (F,), scene (F,): names of the frames."
)
# By kind of student: which points are in no voxel, and so have no features; and what their number is called.
NOWHERE = {
    "unet": ("not finite", "points_not_finite"),
    "voxelnet": ("not finite, or outside the student's range", "points_without_voxel"),
}


def run(config: ExportFeaturesConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write features.h5 frame by frame: only one frame's features are in memory."""
    seeding.start(0, config.threads)
    device = pick_device(runtime.device)
    network, student = open_student(inputs["student"], device)
    any_map = NUSCENES  # no label is read
    data = SegmentationData(inputs["frames"], None, any_map, build_voxelizer(network))
    rows = rows_of(inputs["frames"], data.frames.scenes, config.splits, config.split)
    without, counted = NOWHERE[network.kind]
    attributes = {
        "schema": SCHEMA,
        "layout": LAYOUT.format(nowhere=without),
        "data": protocol.data_name(data.frames),
        "split": f"{config.splits} {config.split}",
        "voxel_size_m": network.voxel_size_m,
        "student": json.dumps(protocol.read(inputs["student"])),
    }
    count = 0
    work.expected_bytes = int(data.frames.num_points[rows].sum()) * student.out_channels * 2
    with create(work.folder / FILE, data, rows, student.out_channels, attributes) as file:
        offset = file["point_offset"][:]
        for place, row in enumerate(log.track(rows, f"export features of {config.dataset}")):
            failpoint("export.features")
            features = point_features(student, moved(data.batch([row]), device))
            file["feature"][offset[place] : offset[place + 1]] = features
            count += int(np.isnan(features[:, 0]).sum())
    return {"frames": len(rows), "points": int(offset[-1]), counted: count}


def create(
    path: Path, data: SegmentationData, rows: list[int], channels: int, attributes: Mapping[str, Any]
) -> "h5py.File":
    """A new file with everything but the features, and room for them; one that an interrupted run left is replaced.

    Raises:
        OSError: the disk has not that much room.
    """
    import h5py

    counts = data.frames.num_points[rows]
    file = h5py.File(path, "w")
    file.attrs.update(attributes)
    file["point_offset"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    for name, values in (("token", data.frames.tokens), ("scene", data.frames.scenes)):
        file.create_dataset(name, data=[values[row] for row in rows], dtype=h5py.string_dtype())
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    file.create_dataset("feature", shape=(int(counts.sum()), channels), dtype=np.float16, dcpl=early)
    file.flush()
    try:
        with path.open("r+b") as raw:  # HDF5 that meets a full disk in mid-write does not raise, it crashes
            os.posix_fallocate(raw.fileno(), 0, path.stat().st_size)
    except OSError:
        file.close()
        path.unlink()
        raise
    return file


@torch.no_grad()
def point_features(student: SparseUNet | VoxelNet, batch: VoxelBatch) -> NDArray[np.float16]:
    """Features (P, C) of a batch's points: their voxels' features, NaN for points in no voxel."""
    nowhere = torch.full((1, student.out_channels), torch.nan)
    voxels = student(batch.feature, batch.coords, batch.batch_size).cpu() if len(batch.coords) else nowhere[:0]
    rows = torch.cat([voxels, nowhere])[batch.point_voxel.cpu()]  # -1 is the last row
    features: NDArray[np.float16] = rows.half().numpy()
    return features
