"""Prediction files: accepted by the devkit's own validator, and laid out as SemanticKITTI asks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes  # noqa: TID251  the oracle
from nuscenes.eval.lidarseg.validate_submission import validate_submission  # noqa: TID251  the oracle

from hvd.datasets.labels import NUSCENES, SEMANTICKITTI
from hvd.datasets.nuscenes import open_nuscenes
from hvd.datasets.submission import PredictionWriter


def test_the_devkit_accepts_it(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("nuscenes")
    data = open_nuscenes(root, "v1.0-mini")
    writer = PredictionWriter(tmp_path, "nuscenes", "mini_train")
    sample = data.samples[0]
    train_id = np.arange(len(data.read_points(sample))) % 16
    writer.add(sample.token, NUSCENES.inverse[train_id])
    devkit = NuScenes("v1.0-mini", str(root), verbose=False)
    with pytest.raises(AssertionError, match=r"submission\.json"):
        validate_submission(devkit, str(tmp_path), "mini_train")
    writer.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nuscenes.eval.lidarseg.validate_submission.get_samples_in_eval_set", first_sample)
        validate_submission(devkit, str(tmp_path), "mini_train")
    written = np.fromfile(writer.path(sample.token), np.uint8)
    np.testing.assert_array_equal(written, train_id + 1)


def first_sample(devkit: NuScenes, eval_set: str) -> list[str]:
    return [devkit.sample[0]["token"]]


def test_semantickitti(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, "semkitti", "val")
    writer.add("08/000123", SEMANTICKITTI.inverse[np.array([0, 18, 4])])
    writer.close()
    path = tmp_path / "sequences" / "08" / "predictions" / "000123.label"
    assert np.fromfile(path, "<u4").tolist() == [10, 81, 20]
    assert [entry.name for entry in tmp_path.iterdir()] == ["sequences"]
