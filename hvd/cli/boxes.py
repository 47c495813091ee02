"""Boxes for `hvd draw`: what KITTI's labels say of a frame, and what a detector's result files do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvd.cli.draw import prep_again
from hvd.datasets.fingerprint import kitti_folder
from hvd.datasets.kitti_files import Calibration, Objects, read_calibration, read_labels, read_results
from hvd.drawing import BoxSet, Lines
from hvd.errors import InputError
from hvd.geometry.boxes import corners_rect, edges_in_image
from hvd.geometry.se3 import Float64, inverse, transform

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.store import Store
    from hvd.datasets.prepared import Frame

LABELLED, DETECTED, UNKNOWN = (60, 255, 60), (255, 60, 60), (150, 150, 150)


@contextmanager
def label_folder(store: "Store", item: "Artifact") -> Iterator[Path]:
    """Where labels and calibrations of the frames `item` are: in the boxes made of them, or else in the data set.

    `hvd gc` leaves the boxes alone meanwhile.

    Raises:
        InputError: neither they nor the built-in world are in the store.
        CorruptError: the boxes are damaged.
    """
    from stages.intact import require_intact

    boxes = store.newest("boxes", lambda found: bool(found.key_inputs["inputs"]["frames"] == item.digest))
    if boxes is None:
        yield kitti_folder(_data_root(store, item), item.key_inputs["config"].get("version"))
        return
    with boxes.reading():
        require_intact(boxes)
        yield boxes.path


def _data_root(store: "Store", item: "Artifact") -> Path:
    world = next((parent for parent in item.parents if parent["stage"] == "world"), None)
    if world is None:
        return Path(item.details["sources"]["data"])
    found = store.find("world", world["key"])
    if found is None:
        raise InputError("the world behind the frames is gone", where=world["key"][:8], hint=f"run: {prep_again(item)}")
    return found.path


def find_boxes(
    folder: Path, results: Path | None, min_score: float | None, shown: "Frame"
) -> tuple[list[BoxSet], list[Lines]]:
    """A frame's labelled boxes, where the data set has labels, and detections; for above, and for the one camera.

    Args:
        folder: with calib and, where there are labels, label_2 in it.
        results: folder of the benchmark's result files, or one that holds them in `data`; None: no detections.
        min_score: leave out detections that are less sure.
        shown: the frame.

    Raises:
        InputError: a file is malformed, or the calibration or the frame's result file is missing.
    """
    calibration = read_calibration(folder / "calib" / f"{shown.token}.txt")
    groups, lines = [], []
    label_path = folder / "label_2" / f"{shown.token}.txt"
    if label_path.is_file():
        objects = read_labels(label_path)
        known = objects.take(objects.box3d[:, 0] > 0)
        groups.append(BoxSet(_corners(known, calibration), known.types, LABELLED, "labelled"))
        lines.append(_areas(objects.take(objects.box3d[:, 0] <= 0)))
    if results is not None:
        found = read_results(result_path(results, shown.token))
        found = found.take(found.box3d[:, 0] > 0)
        score = np.zeros(0) if found.score is None else found.score
        sure = np.flatnonzero(score >= (-np.inf if min_score is None else min_score))
        names = tuple(f"{found.types[row]} {score[row]:.2f}" for row in sure)
        found = found.take(sure)
        groups.append(BoxSet(_corners(found, calibration), names, DETECTED, "detected"))
    return groups, [*lines, *(_lines(group, shown) for group in groups)]


def result_path(folder: Path, token: str) -> Path:
    """Where a frame's detections are, in the benchmark's layout.

    Raises:
        InputError: there is no such file.
    """
    places = folder / f"{token}.txt", folder / "data" / f"{token}.txt"
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        others = sorted(path.stem for place in (folder, folder / "data") for path in place.glob("*.txt"))
        there = f"detections of {len(others)} frames, {others[0]} to {others[-1]}" if others else "no detections"
        why = f"looked for {token}.txt; there and in data are {there}"
        hint = "--frame counts the frames here from 0; a detector finds those of the validation part"
        raise InputError(f"no detections of frame {token}", where=folder, why=why, hint=hint)
    return found


def _corners(objects: Objects, calibration: Calibration) -> Float64:
    """Corners (N, 8, 3) in the LiDAR's frame."""
    corners: Float64 = transform(inverse(calibration.rect_from_lidar), corners_rect(objects.box3d).reshape(-1, 3))
    return corners.reshape(-1, 8, 3)


def _lines(group: BoxSet, shown: "Frame") -> Lines:
    """Boxes on the image of the frame's one camera, each named at its upper left corner."""
    ends, box = edges_in_image(group.corners_lidar, shown.camera_from_lidar[0], shown.intrinsics[0].astype(np.float64))
    names = []
    for row, name in enumerate(group.names):
        mine = ends[box == row].reshape(-1, 2)
        if len(mine):
            names.append((name, float(mine[:, 0].min()), float(mine[:, 1].min())))
    return Lines(ends, group.colour, tuple(names))


def _areas(objects: Objects) -> Lines:
    """DontCare areas: rectangles on the image, each named at its upper left corner."""
    left, top, right, bottom = objects.box2d.T
    corner = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2)
    names = tuple((name, *place) for name, place in zip(objects.types, corner[:, 0].tolist(), strict=True))
    return Lines(np.stack([corner, np.roll(corner, -1, axis=1)], axis=2).reshape(-1, 2, 2), UNKNOWN, names)
