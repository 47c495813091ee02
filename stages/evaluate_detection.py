"""Evaluation of a detector: result files in the benchmark's format, and its average precision from those files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache import disk
from cache.work import Work
from hvd import log
from hvd.datasets.detection import BoxBatch, DetectionData, box_batch
from hvd.datasets.kitti import detected_objects
from hvd.datasets.kitti_files import Objects, format_objects, read_results
from hvd.errors import CheckFailedError
from hvd.metrics.detection import Difficulty, Evaluation, count_true, evaluate
from hvd.models.centre_head import Detections, find_boxes
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import DecodeConfig
from hvd.models.detector_file import load_detector
from hvd.training import loading, seeding
from hvd.training.device import moved, pick_device
from stages import protocol
from stages.runtime import Runtime
from stages.selection import rows_of
from stages.specs import DetectEvalConfig

RESULTS = Path("results") / "data"  # as the benchmark's program wants it


def run(config: DetectEvalConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Detect in every frame of the split, write what was found, and score the files, unless it is `test`."""
    seeding.start(0, config.threads)
    device = pick_device(runtime.device)
    detector = load_detector(inputs["model"], device)
    data = DetectionData(inputs["frames"], inputs["boxes"], detector.config.head.classes)
    rows = rows_of(inputs["frames"], data.frames.scenes, config.splits, config.split)
    scored = config.split != "test"
    if scored:
        data.require_labels(rows)
        protocol.warn_of_known(config, inputs, data.frames)
    tokens = [data.frames.tokens[row] for row in rows]
    folder = work.folder / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    detect(detector, data, rows, folder, config, runtime.workers, device)

    found = [read_results(folder / f"{token}.txt") for token in tokens]
    scores: dict[str, Any] = {"map": None, "map_of": [], "ap": {}}
    objects: dict[str, dict[Difficulty, int]] = {}
    if scored:
        truth = [data.boxes.objects(token) for token in tokens]
        objects = count_true(truth)
        scores = summarise(evaluate(truth, found), [name for name in data.classes if name in objects], objects)
    line = protocol.detection_line(config, inputs, data.frames, len(rows))
    counts = {"frames": len(rows), "detections": sum(map(len, found)), "objects": objects}
    (work.folder / "metrics.json").write_text(json.dumps({"protocol": line, **scores, **counts}, indent=1))
    of = ", ".join(scores["map_of"]) or "no class: none has an object that counts"
    log.info(f"mAP {scores['map']} % (3D, moderate) of {of}: {line}" if scored else f"detections, not scored: {line}")
    return {"map": scores["map"], "map_of": scores["map_of"], "frames": len(rows)}


def detect(
    detector: CentreDetector,
    data: DetectionData,
    rows: list[int],
    folder: Path,
    config: DetectEvalConfig,
    workers: int,
    device: torch.device,
) -> None:
    """Write the result file of each frame of `rows` that `folder` lacks: an interrupted run has found the others."""
    left = [row for row in rows if not _result(folder, data, row).is_file()]
    voxels = detector.config.voxelnet

    def load(index: int) -> BoxBatch:
        return box_batch([data.unlabelled(left[index])], voxels.grid, voxels.low)

    def name(index: int) -> str:
        return data.frames.tokens[left[index]]

    batches = loading.prefetch(load, range(len(left)), workers, name)
    for row, batch in zip(log.track(left, f"eval {config.dataset}"), batches, strict=True):
        write_result(_result(folder, data, row), find_objects(detector, data, batch, config.decode, device))


def _result(folder: Path, data: DetectionData, row: int) -> Path:
    return folder / f"{data.frames.tokens[row]}.txt"


@torch.no_grad()
def find_objects(
    detector: CentreDetector, data: DetectionData, batch: BoxBatch, config: DecodeConfig, device: torch.device
) -> Objects:
    """What the detector finds in a frame, as the benchmark wants it; nothing where there is no point in its range.

    Args:
        detector: in eval mode, on `device`.
        data: knows the frame's calibration.
        batch: of that frame alone.
        config: which detections to keep.
        device: to compute on.

    Raises:
        CheckFailedError: a value is not finite.
    """
    (token,), batch = batch.tokens, moved(batch, device)
    if not len(batch.coords):
        return _objects(data, token, Detections(torch.empty(0, 7), torch.empty(0), torch.empty(0, dtype=torch.int64)))
    maps = detector(batch.feature, batch.coords, 1)
    if not all(bool(torch.isfinite(values).all()) for values in (maps.heat, maps.code)):
        raise CheckFailedError("the detector's maps are not finite", where=token)
    (found,) = find_boxes(maps, detector.config.grid, config)
    return _objects(data, token, found)


def _objects(data: DetectionData, token: str, found: Detections) -> Objects:
    names = [data.classes[label] for label in found.classes.tolist()]
    boxes, scores = (values.cpu().numpy().astype(np.float64) for values in (found.boxes, found.scores))
    return detected_objects(boxes, names, scores, data.boxes.calibration(token), *data.boxes.sizes[token])


def write_result(path: Path, objects: Objects) -> None:
    """A result file, whole or not at all: a run that goes on takes it for finished."""
    disk.write_whole(path, "".join(f"{line}\n" for line in format_objects(objects)).encode("ascii"), "result")


def summarise(
    evaluation: Evaluation, classes: Sequence[str], objects: Mapping[str, Mapping[Difficulty, int]]
) -> dict[str, Any]:
    """All average precisions in percent, and the mean that stands for them: 3D, moderate, as papers report it.

    Args:
        evaluation: of the split.
        classes: those that the detector knows.
        objects: how many true objects count, by class and difficulty; the mean is over the classes that have any.
    """
    scored = [name for name in classes if objects[name]["moderate"]]
    each = [evaluation.ap("3d", name, "moderate") for name in scored]
    return {
        "map": round(float(np.mean(each)), 4) if each else None,
        "map_of": scored,
        "ap": {name: round(value, 4) for name, value in evaluation.table().items()},
    }
