"""The table of `hvd eval`."""

import json
from pathlib import Path

import pytest

from cache.store import Store
from hvd.cli.scores import print_scores
from tests.cli.small_store import publish


def printed(store: Store, stage: str, metrics: dict, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    def write(folder: Path) -> None:
        (folder / "metrics.json").write_text(json.dumps(metrics))

    print_scores(publish(store, stage, write=write))
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_each_class_has_its_iou(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    per_class = {"car": {"iou": 81.234, "points": 500}, "bus": {"iou": None, "points": 0}}
    lines = printed(store, "eval", {"miou": 81.234, "per_class": per_class}, capsys)
    assert lines[1:] == [["car", "81.23", "500"], ["bus", "-", "0"], ["mean", "81.23"]]


def test_each_class_has_its_precision_by_measure_and_difficulty(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without orientation where a detection gives no angle."""
    ap = {f"{m}/Car/{d}": value for m in ("2d", "bev", "3d") for value, d in enumerate(("easy", "moderate", "hard"))}
    objects = {"Car": {"easy": 0, "moderate": 4, "hard": 7}}
    lines = printed(store, "eval-detection", {"map": 1.0, "ap": ap, "objects": objects}, capsys)
    assert lines[1:] == [["Car", name, "-", "1.00", "2.00", "0,", "4,", "7"] for name in ("3D", "BEV", "2D")]
