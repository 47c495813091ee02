"""The SemanticKITTI format."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import KDTree

from hvd.datasets.labels import SEMANTICKITTI
from hvd.world.config import WorldConfig
from hvd.world.kinds import Kind, kitti_ids


def _numbers(path: Path) -> dict[str, np.ndarray]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: np.array(values.split(), dtype=float).reshape(3, 4) for name, _, values in lines}


def test_layout(kitti_root: Path, kitti_config: WorldConfig) -> None:
    assert sorted(path.name for path in (kitti_root / "sequences").iterdir()) == ["00", "01", "08"]
    for sequence in (kitti_root / "sequences").iterdir():
        names = [f"{i:06d}" for i in range(kitti_config.frames_per_scene)]
        for folder, suffix in (("velodyne", "bin"), ("labels", "label"), ("image_2", "png")):
            assert sorted(path.name for path in (sequence / folder).iterdir()) == [f"{n}.{suffix}" for n in names]
        for text in ("poses.txt", "times.txt"):
            assert len((sequence / text).read_text().splitlines()) == len(names)
        size = Image.open(sequence / "image_2" / "000000.png").size
        assert size == (kitti_config.image_width, kitti_config.image_height)


def test_clouds_and_labels(kitti_root: Path) -> None:
    seen: set[int] = set()
    for path in sorted(kitti_root.rglob("*.bin")):
        cloud = np.fromfile(path, np.float32).reshape(-1, 4)
        label = np.fromfile(path.parents[1] / "labels" / f"{path.stem}.label", np.uint32)
        assert len(label) == len(cloud) > 3000
        assert cloud[:, 3].min() >= 0
        assert 0.5 < cloud[:, 3].max() <= 1
        known = set(kitti_ids(moving=False).tolist()) | set(kitti_ids(moving=True).tolist())
        assert set(np.unique(label & 0xFFFF).tolist()) <= known
        is_thing = np.isin(label & 0xFFFF, [10, 252, 13, 257, 18, 258, 20, 259, 11, 15, 31, 253, 32, 255, 30, 254])
        assert (label[is_thing] >> 16 > 0).all()
        assert (label[np.isin(label & 0xFFFF, [40, 48, 50, 70, 72])] >> 16 == 0).all()
        seen |= set(SEMANTICKITTI.map((label & 0xFFFF).astype(np.uint16)).tolist())
    names = {SEMANTICKITTI.names[i] for i in seen if i < len(SEMANTICKITTI.names)}
    assert {"car", "truck", "other-vehicle", "person", "road", "sidewalk", "building", "vegetation", "terrain"} <= names


def test_every_kind_has_an_official_id() -> None:
    for moving in (False, True):
        ids = kitti_ids(moving)
        assert len(ids) == len(Kind)
        SEMANTICKITTI.map(ids.astype(np.uint16))


def test_poses_follow_the_standing_world(kitti_root: Path) -> None:
    """Standing things of one frame, moved by the poses into the next, lie on those found there."""
    moved, unmoved = [], []
    for sequence in (kitti_root / "sequences").iterdir():
        lines = (sequence / "poses.txt").read_text().splitlines()
        lidar = _matrix(_numbers(sequence / "calib.txt")["Tr"])
        poses = [_matrix(np.array(line.split(), dtype=float).reshape(3, 4)) @ lidar for line in lines]
        assert np.allclose(poses[0], lidar)
        two_from_one = np.linalg.inv(poses[1]) @ poses[0]
        assert 0.9 < np.linalg.norm(two_from_one[:3, 3]) < 6.1  # half a second at 2 to 12 m/s
        one, two = (_standing(sequence, name) for name in ("000000", "000001"))
        moved.append(_misfit(one @ two_from_one[:3, :3].T + two_from_one[:3, 3], two))
        unmoved.append(_misfit(one, two))
    assert max(moved) < 0.2  # the distance between echoes
    assert np.mean(moved) < 0.6 * np.mean(unmoved)


def _matrix(rows: np.ndarray) -> np.ndarray:
    return np.vstack([rows, [0, 0, 0, 1]])


def _standing(sequence: Path, name: str) -> np.ndarray:
    """Near points of parked vehicles, poles, signs, fences and trunks."""
    cloud = np.fromfile(sequence / "velodyne" / f"{name}.bin", np.float32).reshape(-1, 4)
    label = np.fromfile(sequence / "labels" / f"{name}.label", np.uint32) & 0xFFFF
    near = np.linalg.norm(cloud[:, :2], axis=1) < 15
    return cloud[np.isin(label, [10, 13, 15, 18, 20, 51, 71, 80, 81]) & near, :3].astype(np.float64)


def _misfit(points: np.ndarray, others: np.ndarray) -> float:
    """Median distance to the nearest of other points."""
    assert min(len(points), len(others)) > 100
    return float(np.median(KDTree(others).query(points)[0]))
