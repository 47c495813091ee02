"""Evaluation: one pass over a split, voxel argmax copied to all points, mIoU as the benchmark defines it."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache.work import Work
from hvd import log
from hvd.datasets.labels import LABEL_MAPS, LabelMap
from hvd.datasets.segmentation import SegmentationData
from hvd.datasets.student_voxels import MovingVoxels
from hvd.datasets.submission import PredictionWriter
from hvd.errors import CheckFailedError
from hvd.metrics.segmentation import Absent, confusion, iou, miou
from hvd.models.config import UNetConfig
from hvd.models.heads import SegmentationHead
from hvd.models.student import HEAD_FILE, load_backbone, read_config, student_file
from hvd.models.unet import SparseUNet
from hvd.models.weights import load_checkpoint, load_into
from hvd.training import seeding
from hvd.training.device import moved, pick_device
from stages import protocol
from stages.runtime import Runtime
from stages.selection import rows_of
from stages.specs import EvalConfig

# How the benchmarks treat a class in neither truth nor prediction: the nuScenes devkit leaves it out of the mean,
# SemanticKITTI's evaluator counts it as 0.
ABSENT: dict[str, Absent] = {"nuscenes": "skip", "semkitti": "zero"}


def run(config: EvalConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Score the model on every frame of the split; writes metrics, and predictions where asked for.

    Without labels, as for the benchmarks' test parts, it writes the predictions alone.
    """
    seeding.start(0, config.threads)
    device = pick_device(runtime.device)
    classes = LABEL_MAPS[config.dataset]
    backbone, head, voxel_size_m = load_model(inputs["model"], len(classes.names), device)
    data = SegmentationData(inputs["frames"], inputs.get("labels"), classes, MovingVoxels(voxel_size_m))
    rows = rows_of(inputs["frames"], data.frames.scenes, config.splits, config.split)
    scored = config.split != "test"
    if scored:
        data.require_labels(rows)
        protocol.warn_of_known(config, inputs, data.frames)
    writer = PredictionWriter(work.folder / "predictions", config.dataset, config.split) if config.predictions else None

    bands = len(config.range_edges_m) + 1
    tables = np.zeros((bands, len(classes.names), len(classes.names)), np.int64)
    not_finite = 0
    for row in log.track(rows, f"eval {config.dataset}"):
        points = data.frames.points(row)
        predicted, missing = predict(backbone, head, data, row, device)
        not_finite += missing
        if scored:
            truth = data.point_labels(row)
            band = np.digitize(np.linalg.norm(points[:, :2], axis=1), config.range_edges_m)
            for index in range(bands):
                mine = band == index
                tables[index] += confusion(truth[mine], predicted[mine], len(classes.names))
        if writer:
            writer.add(data.frames.tokens[row], classes.inverse[predicted])
    if writer:
        writer.close()
    line = protocol.evaluation(config, inputs, data.frames, len(rows))
    figures = summarise(tables, config, classes) if scored else {"miou": None, "by_range": {}, "per_class": {}}
    report = {"protocol": line, **figures, "points_not_finite": not_finite}
    (work.folder / "metrics.json").write_text(json.dumps(report, indent=1))
    log.info(f"mIoU {report['miou']:.2f} %: {line}" if scored else f"predictions, not scored: {line}")
    return {"miou": report["miou"], "frames": len(rows), "by_range": report["by_range"]}


def load_model(folder: Path, num_classes: int, device: torch.device) -> tuple[SparseUNet, SegmentationHead, float]:
    """A fine-tuned backbone and head in eval mode, and their voxel size in metres."""
    config = read_config(student_file(folder))
    assert isinstance(config, UNetConfig), "a model fine-tuned for segmentation carries its U-Net's configuration"
    backbone = load_backbone(folder, config, device)
    head = SegmentationHead(backbone.out_channels, num_classes).to(device)
    load_into(head, load_checkpoint(folder / HEAD_FILE), folder / HEAD_FILE)
    return backbone.eval(), head.eval(), config.voxel_size_m


@torch.no_grad()
def predict(
    backbone: SparseUNet, head: SegmentationHead, data: SegmentationData, row: int, device: torch.device
) -> tuple[NDArray[np.int64], int]:
    """Classes of all points (P,); those that are not finite get the frame's commonest. And how many those are.

    Raises:
        CheckFailedError: a score is not finite.
    """
    batch = moved(data.batch([row]), device)
    if len(batch.coords) == 0:
        return np.zeros(len(batch.point_voxel), np.int64), len(batch.point_voxel)
    scores = head(backbone(batch.feature, batch.coords, 1))
    if not bool(torch.isfinite(scores).all()):
        raise CheckFailedError("the model's scores are not finite", where=data.frames.tokens[row])
    classes = scores.argmax(1)[batch.point_voxel.clamp(min=0)].cpu().numpy()
    missing = (batch.point_voxel < 0).cpu().numpy()
    if missing.any():
        classes[missing] = np.bincount(classes[~missing]).argmax()
    return classes, int(missing.sum())


def summarise(tables: NDArray[np.int64], config: EvalConfig, classes: LabelMap) -> dict[str, Any]:
    """mIoU, IoU and points per class, and mIoU by range, in percent, from confusions (bands, C, C)."""
    absent = ABSENT[config.dataset]
    whole = tables.sum(0)
    edges = [0.0, *config.range_edges_m, None]
    names = [f"{low:g}-{high:g} m" if high else f"{low:g}+ m" for low, high in pairwise(edges)]
    per_class = {
        name: {"iou": None if np.isnan(value) else round(100 * float(value), 3), "points": int(points)}
        for name, value, points in zip(classes.names, iou(whole), whole.sum(1), strict=True)
    }
    return {
        "miou": round(100 * miou(whole, absent), 4),
        "by_range": {
            name: round(100 * miou(table, absent), 4) if table.any() else None
            for name, table in zip(names, tables, strict=True)
        },
        "per_class": per_class,
        "confusion": whole.tolist(),
    }
