"""The format of KITTI's objects: labels against the instances that the rays met, and against projections."""

import json
from pathlib import Path

import numpy as np
import pytest

from hvd.datasets.kitti import KittiDataset, open_kitti
from hvd.datasets.kitti_files import DONT_CARE
from hvd.datasets.sample import Sample
from hvd.geometry.boxes import image_boxes, lidar_from_rect_boxes, observation_angle, points_in_boxes
from hvd.world.annotate import TYPES
from hvd.world.build import write_world
from hvd.world.config import WorldConfig, mini_world
from hvd.world.record import draw_drive, record

SLACK_PX = 0.6  # two decimals of a size and of a place, seen from some metres


@pytest.fixture(scope="module")
def config() -> WorldConfig:
    sizes = {"image_width": 320, "image_height": 96, "lidar_columns": 360}
    return mini_world("kitti-object", seed=3).with_(train_scenes=2, val_scenes=1, frames_per_scene=2, **sizes)


@pytest.fixture(scope="module")
def root(config: WorldConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kitti-object")
    write_world(config, out, out.with_name(f"{out.name}-notes"), workers=1)
    return out


@pytest.fixture(scope="module")
def data(root: Path) -> KittiDataset:
    return open_kitti(root)


def test_layout(root: Path, data: KittiDataset, config: WorldConfig) -> None:
    assert [sample.token for sample in data.samples] == [f"{i:06d}" for i in range(6)]
    for sample in data.samples:
        assert (sample.cameras[0].width, sample.cameras[0].height) == (config.image_width, config.image_height)
        assert len(data.read_points(sample)) > 3000
        text = (root / "training" / "calib" / f"{sample.token}.txt").read_text()
        names = ["P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo"]
        assert [line.partition(":")[0] for line in text.splitlines()] == names


def test_a_drive_is_in_one_part(data: KittiDataset, root: Path) -> None:
    assert data.splits("paper") == {"train": ("000000", "000001", "000002", "000003"), "val": ("000004", "000005")}
    assert data.splits("parametrize") == {"train": ("000000", "000001"), "val": ("000002", "000003")}
    assert set(json.loads((root / "splits.json").read_text())) == {"paper", "parametrize"}


def test_labels_name_what_the_benchmark_knows(data: KittiDataset) -> None:
    found = [data.read_objects(sample) for sample in data.samples]
    seen = {name for objects in found for name in objects.types}
    assert {"Car", "Pedestrian", "Cyclist"} <= seen <= {*TYPES.values(), "Van", DONT_CARE}
    for objects in found:
        known = objects.take([name != DONT_CARE for name in objects.types])
        assert ((known.truncation >= 0) & (known.truncation <= 1)).all()
        assert np.isin(known.occlusion, range(4)).all()
        away = np.abs(np.exp(1j * known.alpha) - np.exp(1j * observation_angle(known.box3d)))
        assert away.max(initial=0) < 0.02
        rest = objects.of(DONT_CARE)
        assert (rest.box3d == [-1, -1, -1, -1000, -1000, -1000, -10]).all() and (rest.occlusion == -1).all()


def test_the_projected_box_covers_the_one_in_2d(data: KittiDataset) -> None:
    """And is not much larger where nothing is cut off: both are tight."""
    shares = []
    for sample in data.samples:
        objects, calibration = data.read_objects(sample), data.read_calibration(sample)
        known = objects.take([name != DONT_CARE for name in objects.types])
        view = sample.cameras[0]
        projected = image_boxes(known.box3d, calibration.image_from_rect, view.width, view.height)
        near = 1 + 40 / known.box3d[:, 5].clip(min=1)  # two decimals at 2 m are more pixels than at 40
        assert (projected[:, :2] - known.box2d[:, :2] <= SLACK_PX * near[:, None]).all()
        assert (known.box2d[:, 2:] - projected[:, 2:] <= SLACK_PX * near[:, None]).all()
        areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (known.box2d, projected)]
        shares += (areas[0] / areas[1])[known.truncation == 0].tolist()
    assert len(shares) > 10 and np.median(shares) > 0.7


def test_points_in_a_box_are_of_its_thing(config: WorldConfig, data: KittiDataset) -> None:
    """The same drives recorded anew give every point's instance; near its bottom a box holds some ground."""
    inside_box = upper = of_thing = both = 0
    for split, index, number in (("train", 1, 1), ("val", 0, 2)):
        drive = draw_drive(config, split, index)  # type: ignore[arg-type]
        for key_frame in range(2):
            cloud = record(config, drive, key_frame, number).cloud
            sample = data.samples[2 * number + key_frame]
            points = data.read_points(sample)
            np.testing.assert_array_equal(points[:, :3], cloud.point)
            numbers = np.array([0, *(thing.number if thing.kind in TYPES else 0 for thing in drive.scene.things)])
            for inside, above_ground in _boxes(data, sample, points):
                instance = numbers[cloud.instance]
                if not (inside & above_ground).any():
                    continue
                own = np.bincount(instance[inside & above_ground]).argmax()
                assert own > 0
                mine = instance == own
                inside_box += int((inside & above_ground).sum())
                upper += int((inside & above_ground & mine).sum())
                of_thing += int(mine.sum())
                both += int((inside & mine).sum())
    assert both > 500
    assert upper / inside_box > 0.99
    assert both / of_thing > 0.93  # the rest is noise of the range


def _boxes(data: KittiDataset, sample: Sample, points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each box: which points it holds, and which are 15 cm or more above its bottom."""
    objects, calibration = data.read_objects(sample), data.read_calibration(sample)
    known = objects.take([name != DONT_CARE for name in objects.types])
    boxes = lidar_from_rect_boxes(known.box3d, calibration.rect_from_lidar)
    above = points[:, 2] > (boxes[:, 2] - boxes[:, 5] / 2 + 0.15)[:, None]
    return list(zip(points_in_boxes(points, boxes), above, strict=True))


def test_the_same_seed_gives_the_same_bytes(config: WorldConfig, root: Path, tmp_path: Path) -> None:
    """One drive of it, written alone."""
    from hvd.world import kitti_object_writer as writer

    writer.prepare_folders(tmp_path)
    assert writer.write_drive(config, "val", 0, 2, tmp_path) == {"frames": ["000004", "000005"]}
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        assert path.read_bytes() == (root / path.relative_to(tmp_path)).read_bytes(), path.name
