"""The nuScenes reader: against the devkit, and every way in which a data set can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes import NuScenes  # noqa: TID251  the oracle
from nuscenes.utils.splits import create_splits_scenes  # noqa: TID251  the oracle
from PIL import Image
from pyquaternion import Quaternion

from hvd.datasets.nuscenes import NuScenesDataset, open_nuscenes
from hvd.datasets.splits import SLIDR_HELD_OUT
from hvd.errors import InputError
from tests.datasets.tiny import HEIGHT, POINTS, VERSION, WIDTH, Record, edit, write_nuscenes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_nuscenes(tmp_path / "nu scenes ü")


def opened(root: Path) -> NuScenesDataset:
    return open_nuscenes(root, VERSION)


def matrix(record: Record) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = Quaternion(record["rotation"]).rotation_matrix
    out[:3, 3] = record["translation"]
    return out


def assert_equals_devkit(data: NuScenesDataset, devkit: NuScenes) -> None:
    """Samples, files and transforms, joined through the devkit's own look-ups."""
    records = []
    for scene in devkit.scene:
        token = scene["first_sample_token"]
        while token:
            records.append((devkit.get("sample", token), scene["name"]))
            token = records[-1][0]["next"]
    assert len(data.samples) == len(records)
    for sample, (record, scene_name) in zip(data.samples, records, strict=True):
        lidar = devkit.get("sample_data", record["data"]["LIDAR_TOP"])
        assert (sample.token, sample.scene) == (lidar["token"], scene_name)
        assert str(sample.points_path) == devkit.get_sample_data_path(lidar["token"])
        assert str(sample.labels_path).endswith(devkit.get("lidarseg", lidar["token"])["filename"])
        global_from_lidar = global_from_sensor(devkit, lidar)
        assert {view.name for view in sample.cameras} == set(record["data"]) - {"LIDAR_TOP"}
        for view in sample.cameras:
            data_record = devkit.get("sample_data", record["data"][view.name])
            calibration = devkit.get("calibrated_sensor", data_record["calibrated_sensor_token"])
            assert str(view.path) == devkit.get_sample_data_path(data_record["token"])
            assert (view.width, view.height) == (data_record["width"], data_record["height"])
            np.testing.assert_array_equal(view.intrinsics, calibration["camera_intrinsic"])
            np.testing.assert_allclose(view.ego_from_camera, matrix(calibration), atol=1e-12)
            expected = np.linalg.solve(global_from_sensor(devkit, data_record), global_from_lidar)
            np.testing.assert_allclose(view.camera_from_lidar, expected, atol=1e-8)


def global_from_sensor(devkit: NuScenes, record: Record) -> np.ndarray:
    ego = matrix(devkit.get("ego_pose", record["ego_pose_token"]))
    return ego @ matrix(devkit.get("calibrated_sensor", record["calibrated_sensor_token"]))


def test_made_up_equals_devkit(root: Path) -> None:
    data = opened(root)
    assert_equals_devkit(data, NuScenes(VERSION, str(root), verbose=False))
    assert [sample.scene for sample in data.samples] == ["scene-0061"] * 2 + ["scene-0103"] * 2


def test_recorded_equals_devkit(real_data: Callable[[str], Path]) -> None:
    folder = real_data("nuscenes")
    assert_equals_devkit(open_nuscenes(folder, "v1.0-mini"), NuScenes("v1.0-mini", str(folder), verbose=False))


def test_sensor_files(root: Path) -> None:
    data = opened(root)
    sample = data.samples[1]
    points = data.read_points(sample)
    raw = np.fromfile(sample.points_path, "<f4").reshape(POINTS, 5)
    np.testing.assert_array_equal(points[:, :3], raw[:, :3])
    np.testing.assert_allclose(points[:, 3], raw[:, 3] / 255)
    assert sample.labels_path is not None
    np.testing.assert_array_equal(data.read_labels(sample, POINTS), np.fromfile(sample.labels_path, "u1"))
    image = data.read_image(sample.cameras[0])
    assert image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(image, Image.open(sample.cameras[0].path))


def test_official_splits(root: Path) -> None:
    """Split lists are the devkit's; parametrize is SLidR's 600 + 100 of its training scenes."""
    official = create_splits_scenes()
    assert len(set(SLIDR_HELD_OUT)) == 100
    assert set(SLIDR_HELD_OUT) < set(official["train"])
    data = opened(root)
    assert data.splits("paper") == {"train": ("scene-0061",), "val": ("scene-0103",), "test": ()}
    assert data.splits("parametrize") == {"train": ("scene-0061",), "val": ()}


def test_every_official_scene_is_in_its_split(tmp_path: Path) -> None:
    official = create_splits_scenes()
    data = opened(write_nuscenes(tmp_path / "held", (SLIDR_HELD_OUT[0], official["val"][0], official["test"][0])))
    first = {split: names[0] for split, names in data.splits("paper").items()}
    assert first == {"train": SLIDR_HELD_OUT[0], "val": official["val"][0], "test": official["test"][0]}
    assert data.splits("parametrize") == {"train": (), "val": (SLIDR_HELD_OUT[0],)}


def test_own_splits_win(root: Path) -> None:
    own = {"paper": {"train": ["scene-0103", "scene-9999"], "val": ["scene-0061"]}}
    (root / "splits.json").write_text(json.dumps(own))
    assert opened(root).splits("paper") == {"train": ("scene-0103",), "val": ("scene-0061",)}
    assert opened(root).splits("parametrize") == {}
    (root / "splits.json").write_text(json.dumps({"parametrize": own["paper"]}))
    with pytest.raises(InputError, match=r"splits\.json.*'paper'"):
        opened(root).splits("paper")


@pytest.mark.parametrize("text", ["{", '{"paper": 3}', '{"paper": {"train": "scene-0061"}}', "[1]", "[" * 100_000])
def test_bad_own_splits(root: Path, text: str) -> None:
    (root / "splits.json").write_text(text)
    with pytest.raises(InputError, match=r"splits\.json"):
        opened(root).splits("paper")


def test_no_labels_in_a_test_version(root: Path) -> None:
    (root / VERSION / "lidarseg.json").unlink()
    (root / VERSION / "category.json").unlink()
    sample = opened(root).samples[0]
    assert sample.labels_path is None
    with pytest.raises(InputError, match=sample.token):
        opened(root).read_labels(sample, POINTS)


USED_TABLES = ["scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose", "category"]


@pytest.mark.parametrize("table", USED_TABLES)
def test_missing_table(root: Path, table: str) -> None:
    (root / VERSION / f"{table}.json").unlink()
    with pytest.raises(InputError, match=rf"missing table.*{table}\.json"):
        opened(root)


@pytest.mark.parametrize("table", [*USED_TABLES, "lidarseg"])
@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "[1]", '[{"name": 1}]', '[{"token": 5}]', '[{"token": "t", "x": NaN}]', "[" * 100_000, "\udcff"],
)
def test_damaged_table(root: Path, table: str, text: str) -> None:
    (root / VERSION / f"{table}.json").write_bytes(text.encode("utf8", "surrogateescape"))
    with pytest.raises(InputError, match=r"table|sample"):
        opened(root)


@pytest.mark.parametrize("table", ["scene", "sample", "sensor", "calibrated_sensor", "category"])
def test_duplicate_token(root: Path, table: str) -> None:
    edit(root, table, lambda rows: rows.append(rows[0]))
    with pytest.raises(InputError, match=rf"{table}\.json.*duplicate token"):
        opened(root)


def change(**fields: Any) -> Callable[[list[Record]], None]:
    """Set fields of the last record."""
    return lambda rows: rows[-1].update(fields)


def key_frame(**fields: Any) -> Callable[[list[Record]], None]:
    """Set fields of the last key frame."""
    return lambda rows: [row for row in rows if row["is_key_frame"]][-1].update(fields)


@pytest.mark.parametrize(
    ("table", "damage", "named"),
    [
        ("sample", change(scene_token="gone"), r"scene\.json.*gone does not exist, named by sample s1-0"),
        ("sample_data", key_frame(sample_token="gone"), r"sample\.json.*gone.*s1-0-CAM_BACK-key"),
        ("sample_data", key_frame(ego_pose_token="gone"), r"ego_pose\.json.*gone.*s1-0-CAM_BACK-key"),
        ("sample_data", key_frame(calibrated_sensor_token="gone"), r"calibrated_sensor\.json.*gone"),
        ("sample_data", key_frame(ego_pose_token=[1]), r"ego_pose_token of s1-0-CAM_BACK-key"),
        ("sample_data", key_frame(width="32"), r"width of s1-0-CAM_BACK-key"),
        ("sample_data", key_frame(filename="../../etc/passwd"), r"filename of s1-0-CAM_BACK-key"),
        ("sample_data", key_frame(filename="/etc/passwd"), r"filename of s1-0-CAM_BACK-key"),
        ("sample_data", key_frame(is_key_frame=False), r"CAM_BACK of s1-0"),
        ("sample_data", key_frame(calibrated_sensor_token="calib-CAM_FRONT"), r"two CAM_FRONT key frames"),
        ("calibrated_sensor", change(sensor_token="gone"), r"sensor\.json.*gone.*calib-CAM_BACK"),
        ("calibrated_sensor", change(rotation=[1, 1, 0, 0]), r"rotation of calib-CAM_BACK.*length 1\.41"),
        ("calibrated_sensor", change(rotation=[1, 0, 0]), r"rotation of calib-CAM_BACK"),
        ("calibrated_sensor", change(translation=["a", 0, 0]), r"translation of calib-CAM_BACK"),
        ("calibrated_sensor", change(translation=[10**400, 0, 0]), r"translation of calib-CAM_BACK"),
        (
            "calibrated_sensor",
            change(camera_intrinsic=np.zeros((3, 3)).tolist()),
            r"camera_intrinsic of calib-CAM_BACK",
        ),
        ("calibrated_sensor", change(camera_intrinsic=[]), r"camera_intrinsic of calib-CAM_BACK"),
        ("calibrated_sensor", change(camera_intrinsic=[[1, 0], [0, 1]]), r"camera_intrinsic of calib-CAM_BACK"),
        ("calibrated_sensor", change(camera_intrinsic=[[9, 0, 1], [0, 9, 1], [0, 1, 1]]), r"camera_intrinsic"),
        ("sample", change(timestamp=None), r"timestamp of s1-0"),
        ("scene", change(name=7), r"name of s1"),
        ("category", change(index=3), r"index of cat31"),
        ("lidarseg", change(filename=None), r"filename of s1-0-LIDAR_TOP-key"),
    ],
)
def test_wrong_record(root: Path, table: str, damage: Callable[[list[Record]], None], named: str) -> None:
    edit(root, table, damage)
    with pytest.raises(InputError, match=named):
        opened(root)


def test_wrong_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        open_nuscenes(tmp_path / "nowhere", VERSION)
    with pytest.raises(InputError, match=r"v1\.0-mini"):
        open_nuscenes(tmp_path, "v1.0-mini")


def test_the_other_table_of_categories_is_named(root: Path) -> None:
    """nuScenes and nuScenes-lidarseg both bring a category.json: the one unpacked last stays."""
    edit(root, "category", lambda rows: [row.pop("index") for row in rows])
    with pytest.raises(InputError, match=r"category\.json.*unpack nuScenes-lidarseg last"):
        opened(root)


@pytest.mark.parametrize("size", [19, 21, 16 * 7])
def test_truncated_points(root: Path, size: int) -> None:
    data = opened(root)
    path = data.samples[0].points_path
    path.write_bytes(bytes(size))
    with pytest.raises(InputError, match=rf"{path.name}.*{size} bytes"):
        data.read_points(data.samples[0])


def test_missing_and_empty_points(root: Path) -> None:
    data = opened(root)
    path = data.samples[0].points_path
    path.write_bytes(b"")
    assert data.read_points(data.samples[0]).shape == (0, 4)
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        data.read_points(data.samples[0])


def test_label_count_differs(root: Path) -> None:
    data = opened(root)
    with pytest.raises(InputError, match=rf"lidarseg\.bin.*{POINTS} labels, {POINTS + 1} points"):
        data.read_labels(data.samples[0], POINTS + 1)
    path = data.samples[0].labels_path
    assert path is not None
    path.unlink()
    with pytest.raises(InputError, match=path.name):
        data.read_labels(data.samples[0], POINTS)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def make_grey(path: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(path)


def make_small(path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT - 1)).save(path)


def make_bitmap(path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, "BMP")


def make_page(path: Path) -> None:
    path.write_text("<html>not found</html>")


@pytest.mark.parametrize("damage", [truncate, make_grey, make_small, make_bitmap, make_page, Path.unlink])
def test_bad_image(root: Path, damage: Callable[[Path], object]) -> None:
    data = opened(root)
    view = data.samples[0].cameras[0]
    damage(view.path)
    with pytest.raises(InputError, match=view.path.name):
        data.read_image(view)
