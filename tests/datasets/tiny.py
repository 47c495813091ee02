"""Data sets of a few points in the published formats, to be damaged by tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hvd.datasets.labels import NUSCENES_CATEGORIES

VERSION = "v1.0-tiny"
POINTS = 50
WIDTH, HEIGHT = 32, 18
CHANNELS = ("LIDAR_TOP", "CAM_FRONT", "CAM_BACK")

Record = dict[str, Any]


def write_nuscenes(root: Path, scenes: tuple[str, ...] = ("scene-0061", "scene-0103")) -> Path:
    """Two key frames and a sweep for each scene, LiDAR and two cameras."""
    rng = np.random.default_rng(0)
    tables: dict[str, list[Record]] = {name: [] for name in TABLES}
    tables["category"] = [
        {"token": f"cat{i}", "name": name, "description": "", "index": i}
        for i, (name, _) in enumerate(NUSCENES_CATEGORIES)
    ]
    tables["log"] = [{"token": "log", "logfile": "l", "vehicle": "v", "date_captured": "d", "location": "x"}]
    tables["map"] = [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/m.png"}]
    for channel in CHANNELS:
        _add_sensor(tables, channel, rng)
    for number, scene in enumerate(scenes):
        _add_scene(root, tables, f"s{number}", scene, rng)
    (root / VERSION).mkdir(parents=True)
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    (root / "maps").mkdir()
    Image.new("L", (4, 4)).save(root / "maps" / "m.png")
    return root


TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "lidarseg", "log", "map", "sample"),
    *("sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)


def _add_sensor(tables: dict[str, list[Record]], channel: str, rng: np.random.Generator) -> None:
    is_camera = channel.startswith("CAM")
    modality = "camera" if is_camera else "lidar"
    intrinsics = [[20.0, 0.0, 16.0], [0.0, 20.0, 9.0], [0.0, 0.0, 1.0]] if is_camera else []
    tables["sensor"].append({"token": f"sensor-{channel}", "channel": channel, "modality": modality})
    pose = {"rotation": unit(rng), "translation": rng.normal(size=3).tolist()}
    calibration = {"token": f"calib-{channel}", "sensor_token": f"sensor-{channel}", **pose}
    tables["calibrated_sensor"].append(calibration | {"camera_intrinsic": intrinsics})


def unit(rng: np.random.Generator) -> list[float]:
    quaternion = rng.normal(size=4)
    return list(quaternion / np.linalg.norm(quaternion))


def _add_scene(root: Path, tables: dict[str, list[Record]], token: str, name: str, rng: np.random.Generator) -> None:
    samples = [f"{token}-0", f"{token}-1"]
    ends = {"first_sample_token": samples[0], "last_sample_token": samples[1], "nbr_samples": 2}
    tables["scene"].append({"token": token, "log_token": "log", "name": name, "description": "", **ends})
    for i in (1, 0):  # not in order of time: the reader has to sort
        links = {"prev": "" if i == 0 else samples[0], "next": samples[1] if i == 0 else ""}
        tables["sample"].append({"token": samples[i], "timestamp": 100 * i, "scene_token": token, **links})
        for channel in CHANNELS:
            for is_key_frame in (True, False):
                _add_data(root, tables, samples[i], channel, is_key_frame, rng)


def _add_data(
    root: Path,
    tables: dict[str, list[Record]],
    sample: str,
    channel: str,
    is_key_frame: bool,
    rng: np.random.Generator,
) -> None:
    token = f"{sample}-{channel}-{'key' if is_key_frame else 'sweep'}"
    is_camera = channel.startswith("CAM")
    name = f"{'samples' if is_key_frame else 'sweeps'}/{channel}/{token}.{'jpg' if is_camera else 'pcd.bin'}"
    pose = {"token": f"pose-{token}", "rotation": unit(rng), "translation": rng.normal(size=3).tolist()}
    tables["ego_pose"].append(pose | {"timestamp": 0})
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": pose["token"],
            "calibrated_sensor_token": f"calib-{channel}",
            "timestamp": 0,
            "fileformat": "jpg" if is_camera else "pcd",
            "is_key_frame": is_key_frame,
            "width": WIDTH if is_camera else 0,
            "height": HEIGHT if is_camera else 0,
            "filename": name,
            "prev": "",
            "next": "",
        }
    )
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_camera:
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
        return
    points = rng.uniform(-10, 10, (POINTS, 5)).astype("<f4")
    points[:, 3] = rng.integers(0, 256, POINTS)
    points.tofile(path)
    if is_key_frame:
        labels = f"lidarseg/{VERSION}/{token}_lidarseg.bin"
        (root / labels).parent.mkdir(parents=True, exist_ok=True)
        rng.integers(0, 32, POINTS, dtype=np.uint8).tofile(root / labels)
        tables["lidarseg"].append({"token": token, "sample_data_token": token, "filename": labels})


def edit(root: Path, table: str, change: Callable[[list[Record]], object]) -> None:
    """Change a table in place: `change` gets its records."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def write_semantickitti(root: Path, frames: dict[str, int] | None = None) -> Path:
    """Sequences of a few sweeps with labels, instances in the upper half of each."""
    rng = np.random.default_rng(0)
    for sequence, count in (frames or {"00": 3, "08": 2}).items():
        folder = root / "sequences" / sequence
        for name in ("velodyne", "labels"):
            (folder / name).mkdir(parents=True)
        for number in range(count):
            points = rng.uniform(0, 1, (POINTS, 4)).astype("<f4")
            points.tofile(folder / "velodyne" / f"{number:06d}.bin")
            raw = rng.choice([0, 10, 40, 252, 259], POINTS).astype("<u4") | (rng.integers(0, 99, POINTS) << 16)
            raw.astype("<u4").tofile(folder / "labels" / f"{number:06d}.label")
    return root
