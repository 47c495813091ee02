"""The SemanticKITTI reader on made-up sequences and on the recorded frame."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hvd.datasets.labels import IGNORED, SEMANTICKITTI
from hvd.datasets.listing import list_frames
from hvd.datasets.semantickitti import open_semantickitti
from hvd.errors import InputError
from tests.datasets.tiny import POINTS, write_semantickitti


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_semantickitti(tmp_path / "dataset")


def test_samples_in_order(root: Path) -> None:
    data = open_semantickitti(root)
    assert [sample.token for sample in data.samples] == [
        *("00/000000", "00/000001", "00/000002"),
        *("08/000000", "08/000001"),
    ]
    assert [sample.scene for sample in data.samples] == ["00"] * 3 + ["08"] * 2
    assert data.samples[0].cameras == ()


def test_sensor_files(root: Path) -> None:
    data = open_semantickitti(root)
    sample = data.samples[4]
    np.testing.assert_array_equal(
        data.read_points(sample), np.fromfile(root / "sequences/08/velodyne/000001.bin", "<f4").reshape(-1, 4)
    )
    halves = np.fromfile(root / "sequences/08/labels/000001.label", "<u2").reshape(-1, 2)
    assert halves[:, 1].any(), "the instance half is in use"
    np.testing.assert_array_equal(data.read_labels(sample, POINTS), halves[:, 0])


def test_recorded_frame(real_data: Callable[[str], Path]) -> None:
    data = open_semantickitti(real_data("semantickitti"))
    sample = data.samples[0]
    points = data.read_points(sample)
    assert points.shape == (124_668, 4)
    assert 0 <= points[:, 3].min() < points[:, 3].max() <= 1
    train_id = SEMANTICKITTI.map(data.read_labels(sample, len(points)))
    share = np.bincount(train_id, minlength=256) / len(points)
    assert 0.02 < share[IGNORED] < 0.1
    assert share[[8, 10, 12, 14]].sum() > 0.6, "a street: road, sidewalk, building, vegetation"


def test_splits(root: Path) -> None:
    data = open_semantickitti(root)
    assert data.splits("paper") == {"train": ("00",), "val": ("08",), "test": ()}
    assert data.splits("parametrize") == {"train": ("00",), "val": ()}, "07 is held out, and not here"
    (root / "splits.json").write_text(json.dumps({"paper": {"train": ["08"]}}))
    assert data.splits("paper") == {"train": ("08",)}
    listing = list_frames(root, "semkitti", None)
    assert listing.rows("paper", "train") == [3, 4]
    with pytest.raises(InputError, match="split val holds no frame"):
        listing.rows("paper", "val")


def test_test_sequences_have_no_labels(tmp_path: Path) -> None:
    root = write_semantickitti(tmp_path, {"11": 1})
    (root / "sequences/11/labels/000000.label").unlink()
    (root / "sequences/11/labels").rmdir()
    data = open_semantickitti(root)
    assert data.samples[0].labels_path is None
    with pytest.raises(InputError, match="11/000000"):
        data.read_labels(data.samples[0], POINTS)


def test_truncated_files(root: Path) -> None:
    data = open_semantickitti(root)
    sample = data.samples[0]
    sample.points_path.write_bytes(bytes(16 * 3 + 4))
    with pytest.raises(InputError, match=r"000000\.bin.*52 bytes"):
        data.read_points(sample)
    assert sample.labels_path is not None
    sample.labels_path.write_bytes(bytes(4 * POINTS - 4))
    with pytest.raises(InputError, match=rf"000000\.label.*{POINTS - 1} labels, {POINTS} points"):
        data.read_labels(sample, POINTS)


@pytest.mark.parametrize("missing", ["sequences", "velodyne"])
def test_wrong_root(tmp_path: Path, missing: str) -> None:
    if missing == "velodyne":
        (tmp_path / "sequences" / "00").mkdir(parents=True)
    with pytest.raises(InputError, match=r"velodyne/\*\.bin"):
        open_semantickitti(tmp_path)
