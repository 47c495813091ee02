"""The KITTI reader on made-up frames and on the recorded ones."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvd.datasets.fingerprint import check_layout, fingerprint, has_labels
from hvd.datasets.kitti import detected_objects, hold_out, open_kitti, shown_by
from hvd.datasets.kitti_files import read_results, write_objects
from hvd.datasets.listing import list_frames
from hvd.datasets.prepared import Frames, part_path, write_frames
from hvd.datasets.splits import LABEL_UNIT, LabelBudget
from hvd.errors import InputError
from hvd.geometry.boxes import lidar_from_rect_boxes, points_in_boxes, rect_from_lidar_boxes, wrap_angle
from stages.prep_frames import image_size, prepare
from stages.sources import open_dataset, part_of
from tests.datasets.tiny_kitti import POINTS, SIZES, write_kitti

TOKENS = ["000000", "000001", "000002", "000003"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path / "kitti")


def test_samples(root: Path) -> None:
    data = open_kitti(root)
    assert [sample.token for sample in data.samples] == [sample.scene for sample in data.samples] == TOKENS
    sample = data.samples[1]
    raw = np.fromfile(root / "training/velodyne/000001.bin", "<f4").reshape(-1, 4)
    np.testing.assert_array_equal(data.read_points(sample), raw)
    (view,) = sample.cameras
    assert (view.width, view.height) == SIZES[1]
    np.testing.assert_array_equal(data.read_image(view), np.array(Image.open(view.path)))
    np.testing.assert_allclose(view.camera_from_lidar @ view.ego_from_camera, np.eye(4), atol=1e-12)
    assert data.read_objects(sample).types == ("Car", "DontCare")
    with pytest.raises(InputError, match="boxes, not points"):
        data.read_labels(sample, POINTS)


def test_points_that_the_image_shows(root: Path) -> None:
    data = open_kitti(root)
    for sample in data.samples:
        points, calibration = data.read_points(sample), data.read_calibration(sample)
        width, height = sample.cameras[0].width, sample.cameras[0].height
        kept = []
        for point in points:
            u, v, w = calibration.image_from_rect @ calibration.rect_from_lidar @ [*point[:3].astype(np.float64), 1.0]
            inside = w > 0 and 0 <= u / w < width and 0 <= v / w < height
            kept.append(inside)
        assert 0 < sum(kept) < len(points)
        assert shown_by(points, calibration, width, height).tolist() == kept


def test_one_size_cuts_right_and_bottom(root: Path) -> None:
    data, whole = open_kitti(root, one_size=True), open_kitti(root)
    for sample, original in zip(data.samples, whole.samples, strict=True):
        (view,) = sample.cameras
        assert (view.width, view.height) == (60, 38)
        np.testing.assert_array_equal(data.read_image(view), whole.read_image(original.cameras[0])[:38, :60])
        np.testing.assert_array_equal(view.intrinsics, original.cameras[0].intrinsics)


def test_splits(root: Path) -> None:
    data = open_kitti(root)
    assert data.splits("paper") == {"train": ("000000", "000002"), "val": ("000001", "000003")}, "even, odd"
    (root / "ImageSets").mkdir()
    (root / "ImageSets/train.txt").write_text("000003\n000001\n000900\n")
    (root / "ImageSets/val.txt").write_text("000002\n")
    assert data.splits("paper") == {"train": ("000003", "000001"), "val": ("000002",), "test": ()}
    (root / "splits.json").write_text(json.dumps({"paper": {"train": ["000000"]}}))
    assert data.splits("paper") == {"train": ("000000",)}
    assert data.splits("parametrize") == {}, "not asked for by all who bring their own"
    (root / "splits.json").write_text(json.dumps({"parametrize": {"train": ["000000"]}}))
    with pytest.raises(InputError, match=r"splits\.json"):
        data.splits("paper")


def test_frames_of_the_validation_part_alone_are_enough(root: Path) -> None:
    (root / "ImageSets").mkdir()
    (root / "ImageSets/train.txt").write_text("000900\n")
    (root / "ImageSets/val.txt").write_text("000001\n")
    data = open_kitti(root)
    assert data.splits("paper")["val"] == ("000001",)
    assert not any(data.splits("parametrize").values()), "the training part is not here, nor is a part of it"


def test_lists_of_frames_that_are_not_here(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "ImageSets").mkdir()
    (root / "ImageSets/train.txt").write_text("000001\n000900\n000800\n")
    assert open_kitti(root).splits("paper")["train"] == ("000001",)
    assert "its splits name 2 frames that are not here; the first: 000800" in capsys.readouterr().err
    (root / "ImageSets/train.txt").write_text("900\nabc\n")
    with pytest.raises(InputError, match=r"no frame that is here.*900, abc"):
        open_kitti(root).splits("paper")


def test_every_seventh_training_frame_is_held_out() -> None:
    lists = hold_out([str(number) for number in range(1, 16)])
    assert lists["val"] == ("7", "14")
    assert sorted((*lists["train"], *lists["val"]), key=int) == [str(number) for number in range(1, 16)]


def test_label_fractions_count_frames() -> None:
    frames = [f"{number:06d}" for number in range(100)]
    assert LABEL_UNIT["kitti"] == "frame"
    assert LabelBudget.parse("5%").select(frames, 0, LABEL_UNIT["kitti"]) == list(range(0, 100, 20))


def test_listing(root: Path) -> None:
    listing = list_frames(root, "kitti", None)
    assert listing.scenes == tuple(TOKENS)
    assert (listing.cameras, listing.points) == (1, POINTS)
    assert listing.rows("paper", "val") == [1, 3]
    assert listing.rows("paper", "all") == [0, 1, 2, 3]


def test_no_labels(root: Path) -> None:
    shutil.rmtree(root / "training/label_2")
    data = open_kitti(root)
    with pytest.raises(InputError, match="no labels for sample: 000000"):
        data.read_objects(data.samples[0])


def grey(path: Path) -> None:
    Image.open(path).convert("L").save(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def shrink(path: Path) -> None:
    Image.new("RGB", (5, 5)).save(path)


@pytest.mark.parametrize(
    ("damage", "says"), [(grey, "wrong image"), (cut, "decode"), (shrink, "5x5, not"), (os.remove, "read")]
)
def test_damaged_image(root: Path, damage: Callable[[Path], None], says: str) -> None:
    data = open_kitti(root)
    damage(data.samples[2].cameras[0].path)
    with pytest.raises(InputError, match=rf"{says}.*") as error:
        data.read_image(data.samples[2].cameras[0])
    assert "000002.png" in str(error.value)


def test_of_one_size_an_image_without_a_size_is_refused_when_it_is_read(root: Path) -> None:
    (root / "training/image_2/000002.png").write_bytes(b"no PNG")
    data = open_kitti(root, one_size=True)
    assert {(view.width, view.height) for sample in data.samples for view in sample.cameras} == {(60, 38)}
    for sample in data.samples:
        if sample.token != "000002":
            assert data.read_image(sample.cameras[0]).shape == (38, 60, 3)
    with pytest.raises(InputError, match=r"no PNG image: .*000002\.png"):
        data.read_image(data.samples[2].cameras[0])


def test_of_one_size_some_image_has_a_size(root: Path) -> None:
    for path in (root / "training/image_2").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"cannot read the image: .*000000\.png"):
        open_kitti(root, one_size=True)


def test_halves_by_number_are_warned_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_kitti(root).splits("paper")
    assert "even number" in capsys.readouterr().err
    (root / "ImageSets").mkdir()
    (root / "ImageSets/train.txt").write_text("000000\n")
    (root / "ImageSets/val.txt").write_text("000001\n")
    open_kitti(root).splits("paper")
    assert "even number" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["calib/000002.txt", "image_2/000002.png"])
def test_missing_file(root: Path, name: str) -> None:
    (root / "training" / name).unlink()
    with pytest.raises(InputError, match=name):
        open_kitti(root)


def test_not_a_png(root: Path) -> None:
    (root / "training/image_2/000001.png").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"no PNG image.*000001\.png"):
        open_kitti(root)


def test_truncated_points(root: Path) -> None:
    data = open_kitti(root)
    data.samples[0].points_path.write_bytes(bytes(20))
    with pytest.raises(InputError, match=r"000000\.bin.*20 bytes"):
        data.read_points(data.samples[0])


def test_wrong_root(root: Path) -> None:
    check_layout(root, "kitti", None)
    with pytest.raises(InputError, match=r"training/velodyne/\*\.bin"):
        open_kitti(root / "training")


def change_calibration(root: Path) -> None:
    path = root / "training/calib/000001.txt"
    path.write_text(path.read_text().replace("50.0", "51.0"))


def change_points(root: Path) -> None:
    (root / "training/velodyne/000001.bin").write_bytes(bytes(16))


def change_image(root: Path) -> None:
    (root / "training/image_2/000001.png").unlink()


def change_sets(root: Path) -> None:
    (root / "ImageSets").mkdir()
    (root / "ImageSets/train.txt").write_text("000001")


def change_label(root: Path) -> None:
    path = root / "training/label_2/000001.txt"
    path.write_text(path.read_text().replace("1.60", "1.61"))


def delete_labels(root: Path) -> None:
    shutil.rmtree(root / "training/label_2")


FRAMES = [change_calibration, change_points, change_image, change_sets]


@pytest.mark.parametrize("change", [*FRAMES, change_label, delete_labels])
def test_fingerprint(root: Path, change: Callable[[Path], None]) -> None:
    """Each part moves with its own files, also where a text keeps its length, and with no others."""
    before = [fingerprint(root, "kitti", None, part) for part in ("frames", "labels")]
    change(root)
    after = [fingerprint(root, "kitti", None, part) for part in ("frames", "labels")]
    assert [a != b for a, b in zip(before, after, strict=True)] == [change in FRAMES, change not in FRAMES]


def test_has_labels(root: Path) -> None:
    assert has_labels(root, "kitti", None)
    delete_labels(root)
    assert not has_labels(root, "kitti", None)


def test_prepared_frames(root: Path, tmp_path: Path) -> None:
    """`open_dataset` gives what the stage needs: one camera, images of one size, splits for every kind."""
    data = open_dataset("kitti", root, None)
    assert image_size(data.samples) == [60, 38]
    part = part_of(data, range(1, 3))
    frames = [prepare(part, sample, (19, 30)) for sample in part.samples]
    attributes = {"dataset": "kitti", "version": None, "cameras": ["image_2"], "image_size": [60, 38]}
    write_frames(part_path(tmp_path, 0), frames, attributes)
    stored = Frames(tmp_path)
    assert stored.tokens == ("000001", "000002")
    assert (stored.num_pairs > 0).all()


def test_detected_objects(root: Path) -> None:
    """Boxes behind the camera or beside the image are no results."""
    data = open_kitti(root)
    calibration = data.read_calibration(data.samples[0])
    ahead, behind, beside = ([x, y, -0.8, 4, 1.8, 1.5, 0.1] for x, y in ((12, 0), (-12, 0), (5, 40)))
    scores = np.array([0.9, 0.8, 0.7])
    found = detected_objects(np.array([ahead, behind, beside]), ["Car"] * 3, scores, calibration, 60, 40)
    assert found.types == ("Car",)
    assert found.score is not None and found.score.tolist() == [0.9]
    assert found.box2d[0, 0] >= 0 and found.box2d[0, 2] <= 59
    none = detected_objects(np.empty((0, 7)), [], np.empty(0), calibration, 60, 40)
    assert len(none) == 0


# The recorded frames


def test_recorded_labels_survive(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Camera -> LiDAR -> camera -> result file, within 0.01; 2D box and angle computed anew are near the annotated."""
    data = open_kitti(real_data("kitti"))
    count = 0
    for sample in data.samples:
        labels = data.read_objects(sample)
        labels = labels.take([row for row, name in enumerate(labels.types) if name != "DontCare"])
        calibration, (view,) = data.read_calibration(sample), sample.cameras
        boxes = lidar_from_rect_boxes(labels.box3d, calibration.rect_from_lidar)
        again = rect_from_lidar_boxes(boxes, calibration.rect_from_lidar)
        np.testing.assert_allclose(again, labels.box3d, atol=1e-9)
        written = detected_objects(boxes, labels.types, np.ones(len(boxes)), calibration, view.width, view.height)
        write_objects(tmp_path / f"{sample.token}.txt", written)
        found = read_results(tmp_path / f"{sample.token}.txt")
        assert found.types == labels.types
        np.testing.assert_allclose(found.box3d, labels.box3d, atol=0.01)
        assert np.abs(wrap_angle(found.alpha - labels.alpha)).max() < 0.02
        assert np.abs(found.box2d - labels.box2d).max() < 10, "a pedestrian is annotated tighter than its box"
        assert np.median(np.abs(found.box2d - labels.box2d)) < 4
        count += len(labels)
    assert count == 10


def test_recorded_points_in_boxes(real_data: Callable[[str], Path]) -> None:
    """As many as a loop over points finds, and as many as a box of its size at its distance catches."""
    data = open_kitti(real_data("kitti"))
    found = {}
    for sample in data.samples:
        labels = data.read_objects(sample).of("Car", "Pedestrian", "Cyclist")
        boxes = lidar_from_rect_boxes(labels.box3d, data.read_calibration(sample).rect_from_lidar)
        points, view = data.read_points(sample), sample.cameras[0]
        shown = shown_by(points, data.read_calibration(sample), view.width, view.height)
        inside = points_in_boxes(points[:, :3], boxes)
        for row, box in enumerate(boxes):
            near = np.flatnonzero(np.abs(points[:, :2] - box[:2]).max(axis=1) < 10)
            expected = sum(_contains(box, points[i]) for i in near)
            assert inside[row].sum() == expected == inside[row, near].sum()
            found[sample.token, row, labels.types[row]] = int(expected)
            assert shown[inside[row]].mean() > 0.95, "what was annotated is in the image"
    assert found == {
        ("000000", 0, "Pedestrian"): 377,
        ("000001", 0, "Car"): 9,
        ("000001", 1, "Cyclist"): 18,
        ("000002", 0, "Car"): 67,
        ("000003", 0, "Car"): 674,
        ("000004", 0, "Car"): 79,
        ("000004", 1, "Car"): 26,
        ("000005", 0, "Pedestrian"): 70,
    }


def _contains(box: np.ndarray, point: np.ndarray) -> bool:
    x, y, z = (float(point[k]) - box[k] for k in range(3))
    c, s = math.cos(box[6]), math.sin(box[6])
    return abs(c * x + s * y) <= box[3] / 2 and abs(c * y - s * x) <= box[4] / 2 and abs(z) <= box[5] / 2


def test_recorded_frames_prepare(real_data: Callable[[str], Path]) -> None:
    data = open_dataset("kitti", real_data("kitti"), None)
    assert image_size(data.samples) == [1224, 370]
    frame = prepare(data, data.samples[1], (92, 306))
    assert 15_000 < len(frame.pairs) < 25_000, "a sixth of the sweep is in the image"
    assert (frame.sparse_depth > 0).mean() > 0.2
