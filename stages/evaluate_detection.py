"""Evaluation of a detector: result files in the benchmark's format, and its average precision from those files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache.work import Work
from hvd import log
from hvd.datasets.box_augment import BoxScene
from hvd.datasets.detection import DetectionData, box_batch
from hvd.datasets.kitti import detected_objects
from hvd.datasets.kitti_files import Objects, format_objects, read_results
from hvd.errors import CheckFailedError
from hvd.metrics.detection import MIN_OVERLAP, Evaluation, count_true, evaluate
from hvd.models.centre_head import Detections, find_boxes
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import DecodeConfig
from hvd.models.detector_file import load_detector
from hvd.training import seeding
from hvd.training.device import moved, pick_device
from stages import protocol
from stages.runtime import Runtime
from stages.selection import rows_of
from stages.specs import DetectEvalConfig

RESULTS = Path("results") / "data"  # as the benchmark's program wants it


def run(config: DetectEvalConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Detect in every frame of the split, write what was found, and score the files."""
    seeding.start(0, config.threads)
    device = pick_device(runtime.device)
    detector = load_detector(inputs["model"], device)
    data = DetectionData(inputs["frames"], inputs["boxes"], detector.config.head.classes)
    rows = rows_of(inputs["frames"], data.frames.scenes, config.splits, config.split)
    tokens = [data.frames.tokens[row] for row in rows]
    folder = work.folder / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    for row, token in log.track(list(zip(rows, tokens, strict=True)), f"eval {config.dataset}"):
        path = folder / f"{token}.txt"
        if not path.is_file():  # or an interrupted run has found them
            write_result(path, find_objects(detector, data, row, config.decode, device))

    truth = [data.boxes.objects(token) for token in tokens]
    found = [read_results(folder / f"{token}.txt") for token in tokens]
    scores = summarise(evaluate(truth, found))
    line = protocol.detection_line(config, inputs, data.frames, len(rows))
    counts = {"frames": len(rows), "detections": sum(map(len, found)), "objects": count_true(truth)}
    (work.folder / "metrics.json").write_text(json.dumps({"protocol": line, **scores, **counts}, indent=1))
    log.info(f"mAP {scores['map']:.2f} %, Car {scores['car']:.2f} % (3D, moderate): {line}")
    return {"map": scores["map"], "car": scores["car"], "frames": len(rows)}


@torch.no_grad()
def find_objects(
    detector: CentreDetector, data: DetectionData, row: int, config: DecodeConfig, device: torch.device
) -> Objects:
    """What the detector finds in a frame, as the benchmark wants it; nothing where there is no point in its range.

    Raises:
        CheckFailedError: a value is not finite.
    """
    token, voxels = data.frames.tokens[row], detector.config.voxelnet
    nothing = np.empty((0, 7))
    scene = BoxScene(token, data.points(row), nothing, np.empty(0, np.int64), nothing)
    batch = moved(box_batch([scene], voxels.grid, voxels.low), device)
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
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text("".join(f"{line}\n" for line in format_objects(objects)), encoding="ascii")
    unfinished.replace(path)


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """All average precisions in percent, and two figures that stand for them: 3D, moderate, of all classes and of cars.

    Papers report the mean over the three classes as mAP.
    """
    each = [evaluation.ap("3d", name, "moderate") for name in MIN_OVERLAP]
    return {
        "map": round(float(np.mean(each)), 4),
        "car": round(each[list(MIN_OVERLAP).index("Car")], 4),
        "ap": {name: round(value, 4) for name, value in evaluation.table().items()},
    }
