"""What an evaluation counts: bands on the ground, odd points, absent classes."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hvd.datasets.prepared import part_path, write_frames, write_labels
from hvd.errors import CheckFailedError
from stages import evaluate
from stages.specs import EvalConfig
from tests.datasets.two_frames import frame

BICYCLE = 11  # SemanticKITTI's raw label of class 1
CLASSES = 19


def bands(folder: Path, monkeypatch: pytest.MonkeyPatch, points: np.ndarray, head: Any) -> dict[str, Any]:
    """The metrics of a frame with `points` (N, 4), all of them bicycle, as a network of that head sees them."""
    write_frames(part_path(folder / "frames", 0), [replace(frame(0), point=points.astype(np.float32))], {})
    write_labels(part_path(folder / "labels", 0), [np.full(len(points), BICYCLE, np.uint16)])
    monkeypatch.setattr(evaluate, "rows_of", lambda *_: [0])
    monkeypatch.setattr(evaluate.protocol, "evaluation", lambda *_: "line")
    monkeypatch.setattr(evaluate.protocol, "warn_of_known", lambda *_: None)
    monkeypatch.setattr(evaluate, "load_model", lambda *_: (lambda feature, coords, size: feature, head, 0.5))
    inputs = {"frames": folder / "frames", "labels": folder / "labels", "model": folder}
    evaluate.run(EvalConfig(dataset="semkitti"), inputs, SimpleNamespace(folder=folder), SimpleNamespace(device="cpu"))
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_bands_lie_on_the_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five points the one that is 5 m away and 40 m up is wrong: the nearest band alone has it."""

    def bicycle_unless_bright(feature: Tensor) -> Tensor:
        return torch.cat([feature, 0.5 - feature], 1)

    points = np.array([[5, 0, 0, 0], [5, 0, 40, 1], [30, 0, 0, 0], [50, 0, 0, 0]])
    by_range = bands(tmp_path, monkeypatch, points, bicycle_unless_bright)["by_range"]
    assert by_range == {name: round(iou / CLASSES, 4) for name, iou in
                        (("0-20 m", 50), ("20-40 m", 100), ("40+ m", 100))}  # fmt: skip


def test_odd_points_are_of_the_commonest_class_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One point has no place; it is further away than every edge."""

    def bicycle(feature: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0]]).expand(len(feature), 2)

    at = [[5, 0, 0], [5.9, 0, 0], [5, 0.9, 0], [30, 0, 0], [np.nan, 0, 0]]
    metrics = bands(tmp_path, monkeypatch, np.column_stack([at, np.zeros(5)]), bicycle)
    assert metrics["points_not_finite"] == 1
    assert metrics["per_class"]["bicycle"] == {"iou": 100.0, "points": 5}
    share = round(100 / CLASSES, 4)  # the other classes are nowhere, and count as 0
    assert metrics["miou"] == share
    assert metrics["by_range"] == {"0-20 m": share, "20-40 m": share, "40+ m": share}


def test_scores_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN would be class 0."""

    def broken(feature: Tensor) -> Tensor:
        return torch.tensor([[0.0, np.nan]]).expand(len(feature), 2)

    with pytest.raises(CheckFailedError, match="scores are not finite"):
        bands(tmp_path, monkeypatch, np.zeros((3, 4)), broken)


def test_absent_classes_count_as_each_benchmark_says() -> None:
    """The nuScenes devkit leaves them out of the mean, SemanticKITTI's evaluator counts them as 0."""
    assert evaluate.ABSENT == {"nuscenes": "skip", "semkitti": "zero"}
