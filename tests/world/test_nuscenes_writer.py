"""The nuScenes format: the devkit loads it, and its tables say what the sensors saw."""

from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes  # noqa: TID251  the oracle
from nuscenes.utils.geometry_utils import points_in_box  # noqa: TID251
from PIL import Image

from hvd.datasets.labels import NUSCENES
from hvd.world.config import VERSION, WorldConfig
from hvd.world.kinds import RAW_LABELS


@pytest.fixture(scope="module")
def devkit(nuscenes_root: Path) -> NuScenes:
    return NuScenes(VERSION, str(nuscenes_root), verbose=False)


def test_the_devkit_loads_every_file(devkit: NuScenes, nuscenes_config: WorldConfig) -> None:
    scenes = nuscenes_config.train_scenes + nuscenes_config.val_scenes
    assert len(devkit.scene) == scenes
    assert len(devkit.sample) == scenes * nuscenes_config.frames_per_scene
    for record in devkit.sample_data:
        path = Path(devkit.dataroot) / record["filename"]
        if record["fileformat"] == "jpg":
            assert Image.open(path).size == (record["width"], record["height"])
        else:
            assert path.stat().st_size % 20 == 0
    assert [row["index"] for row in devkit.category] == list(range(32))


def test_key_frames_are_linked(devkit: NuScenes) -> None:
    for scene in devkit.scene:
        first = devkit.get("sample", scene["first_sample_token"])
        second = devkit.get("sample", first["next"])
        assert second["token"] == scene["last_sample_token"]
        assert (second["prev"], second["next"]) == (first["token"], "")
        assert second["timestamp"] - first["timestamp"] == 500_000


def test_intensity_ring_and_labels(devkit: NuScenes) -> None:
    seen = set()
    for sample in devkit.sample:
        token = sample["data"]["LIDAR_TOP"]
        cloud = np.fromfile(devkit.get_sample_data_path(token), np.float32).reshape(-1, 5)
        raw = np.fromfile(Path(devkit.dataroot) / devkit.get("lidarseg", token)["filename"], np.uint8)
        assert len(raw) == len(cloud) > 2000
        assert np.isfinite(cloud).all()
        intensity, ring = cloud[:, 3], cloud[:, 4]
        assert (intensity == np.round(intensity)).all()
        assert 0 <= intensity.min() < 10
        assert 60 < intensity.max() <= 255
        assert set(np.unique(ring)) <= set(range(32))
        steepest = np.degrees(np.arctan2(cloud[:, 2], np.hypot(cloud[:, 0], cloud[:, 1])))
        assert np.allclose(steepest, np.linspace(-30.67, 10.67, 32)[ring.astype(int)], atol=0.01)
        seen |= set(NUSCENES.map(raw).tolist())
    assert seen == set(range(16))  # even this small world shows every class


def test_annotations_enclose_their_points(devkit: NuScenes) -> None:
    ids = {row["name"]: row["index"] for row in devkit.category}
    inside = of_class = 0
    for sample in devkit.sample:
        path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = np.fromfile(path, np.float32).reshape(-1, 5)[:, :3]
        token = sample["data"]["LIDAR_TOP"]
        raw = np.fromfile(Path(devkit.dataroot) / devkit.get("lidarseg", token)["filename"], np.uint8)
        for box in boxes:
            of_box = points_in_box(box, points.T, wlh_factor=1.05) & (raw == ids[box.name])
            told = devkit.get("sample_annotation", box.token)["num_lidar_pts"]
            inside, of_class = inside + min(int(of_box.sum()), told), of_class + told
    assert of_class > 500
    assert inside > 0.97 * of_class  # range noise moves some echoes out of thin things


def test_instances_and_attributes(devkit: NuScenes) -> None:
    names = {label.nuscenes for label in RAW_LABELS.values()}
    for instance in devkit.instance:
        assert devkit.get("category", instance["category_token"])["name"] in names
        first = devkit.get("sample_annotation", instance["first_annotation_token"])
        last = devkit.get("sample_annotation", instance["last_annotation_token"])
        assert (first["prev"], last["next"]) == ("", "")
        assert instance["nbr_annotations"] == 1 + (first["token"] != last["token"])
    words = {devkit.get("attribute", t)["name"] for row in devkit.sample_annotation for t in row["attribute_tokens"]}
    assert {"vehicle.moving", "vehicle.parked", "pedestrian.moving", "cycle.with_rider"} <= words
    assert {row["visibility_token"] for row in devkit.sample_annotation} >= {"1", "4"}


def test_things_move_between_key_frames(devkit: NuScenes) -> None:
    moved = {True: [], False: []}
    for row in devkit.sample_annotation:
        if row["next"]:
            way = np.subtract(devkit.get("sample_annotation", row["next"])["translation"], row["translation"])
            words = [devkit.get("attribute", token)["name"] for token in row["attribute_tokens"]]
            if words and not words[0].startswith("cycle"):
                moved[words[0].endswith("moving")].append(float(np.linalg.norm(way)))
    assert min(moved[True]) > 0.25  # half a second at a walk
    assert max(moved[False]) == 0
