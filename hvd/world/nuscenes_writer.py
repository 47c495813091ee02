"""The nuScenes format: samples, lidarseg and the devkit's tables, written drive by drive and then put together."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from hvd.datasets.labels import NUSCENES_CATEGORIES
from hvd.world.config import VERSION, WorldConfig
from hvd.world.drives import scene_name
from hvd.world.files import write_array, write_image
from hvd.world.kinds import RAW_LABELS, Kind, nuscenes_ids
from hvd.world.materials import Split
from hvd.world.mesh import F64
from hvd.world.record import Drive, Frame, draw_drive, record
from hvd.world.scene import Scene
from hvd.world.site import Thing

Row = dict[str, Any]
Tables = dict[str, list[Row]]

_START_US = 1_500_000_000_000_000  # time stamp of the first drive
_DRIVE_US = 60_000_000  # between the starts of two drives
_DRIVE_M = 400.0  # between the origins of two drives on the map
_JPEG_QUALITY = 92
_VISIBILITIES = ("v0-40", "v40-60", "v60-80", "v80-100")
_ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)


def _token(config: WorldConfig, *parts: object) -> str:
    return hashlib.md5("/".join(map(str, (config.seed, *parts))).encode(), usedforsecurity=False).hexdigest()


def write_drive(config: WorldConfig, split: Split, index: int, number: int, out: Path) -> Tables:
    """Record one drive, write its sensor files, and return its rows of the tables."""
    drive = draw_drive(config, split, index)
    name = scene_name(number)
    tables: Tables = {key: [] for key in ("sample", "sample_data", "ego_pose", "sample_annotation", "lidarseg")}
    tables["calibrated_sensor"] = _calibration(config, drive, name)
    for key_frame in range(config.frames_per_scene):
        frame = record(config, drive, key_frame, number)
        _add_frame(config, drive, frame, number, key_frame, out, tables)
    tables["instance"] = _instances(config, tables["sample_annotation"], drive.scene, name)
    tables["scene"] = [_scene_row(config, name, tables["sample"])]
    log = {"token": _token(config, "log", name), "logfile": name, "vehicle": "world", "date_captured": "2017-07-14"}
    tables["log"] = [{**log, "location": "built-in world"}]
    return tables


def _scene_row(config: WorldConfig, name: str, samples: list[Row]) -> Row:
    return {
        "token": _token(config, "scene", name),
        "log_token": _token(config, "log", name),
        "nbr_samples": len(samples),
        "first_sample_token": samples[0]["token"],
        "last_sample_token": samples[-1]["token"],
        "name": name,
        "description": "a street of the built-in world",
    }


def _calibration(config: WorldConfig, drive: Drive, name: str) -> list[Row]:
    mounts: list[tuple[str, F64, list[list[float]]]] = [("LIDAR_TOP", drive.rig.lidar.ego_from_lidar, [])]
    mounts += [(camera.name, camera.ego_from_camera, camera.intrinsics.tolist()) for camera in drive.rig.cameras]
    return [
        {
            "token": _token(config, "calibrated_sensor", name, channel),
            "sensor_token": _token(config, "sensor", channel),
            **_pose(mount),
            "camera_intrinsic": intrinsics,
        }
        for channel, mount, intrinsics in mounts
    ]


def _pose(matrix: F64) -> Row:
    """A (4, 4) transform as the tables store it: quaternion w, x, y, z and translation."""
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return {"translation": matrix[:3, 3].tolist(), "rotation": [w, x, y, z]}


def _on_map(world_from_ego: F64, number: int) -> F64:
    """A pose in the map's frame, where every drive has a place of its own."""
    matrix = world_from_ego.copy()
    matrix[:2, 3] += 500 + _DRIVE_M * number, 700
    return matrix


def _add_frame(
    config: WorldConfig, drive: Drive, frame: Frame, number: int, key_frame: int, out: Path, tables: Tables
) -> None:
    """Write one key frame's files and append its rows."""
    name = scene_name(number)
    start_us = _START_US + number * _DRIVE_US
    lidar_us = start_us + round(frame.time_s * 1e6)
    sample = _token(config, "sample", name, key_frame)
    tables["sample"].append(
        {
            "token": sample,
            "timestamp": lidar_us,
            "scene_token": _token(config, "scene", name),
            **_links(config, ("sample", name), key_frame),
        }
    )
    shots = [("LIDAR_TOP", lidar_us, frame.world_from_ego, (0, 0), "pcd")]
    for camera, pose in zip(drive.rig.cameras, frame.world_from_ego_camera, strict=True):
        stamp = lidar_us + round(camera.delay_s * 1e6)
        shots.append((camera.name, stamp, pose, (camera.width, camera.height), "jpg"))
    for channel, stamp, pose, (width, height), suffix in shots:
        token = _token(config, "sample_data", name, channel, key_frame)
        tables["ego_pose"].append({"token": token, "timestamp": stamp, **_pose(_on_map(pose, number))})
        tables["sample_data"].append(
            {
                "token": token,
                "sample_token": sample,
                "ego_pose_token": token,
                "calibrated_sensor_token": _token(config, "calibrated_sensor", name, channel),
                "timestamp": stamp,
                "fileformat": suffix,
                "is_key_frame": True,
                "height": height,
                "width": width,
                "filename": f"samples/{channel}/{name}__{channel}__{stamp}.{suffix}"
                + (".bin" if suffix == "pcd" else ""),
                **_links(config, ("sample_data", name, channel), key_frame),
            }
        )
    rows = tables["sample_data"][-len(shots) :]
    tables["lidarseg"].append(_write_cloud(frame, rows[0], out))
    for row, image in zip(rows[1:], frame.images, strict=True):
        write_image(out / row["filename"], image, quality=_JPEG_QUALITY)
    tables["sample_annotation"] += _annotations(
        config, drive.scene, frame, number, key_frame, drive.rig.lidar.ego_from_lidar
    )


def _links(config: WorldConfig, parts: tuple[str, ...], key_frame: int) -> Row:
    """Tokens of the same thing in the key frames before and after."""
    last = config.frames_per_scene - 1
    return {
        "prev": _token(config, *parts, key_frame - 1) if key_frame > 0 else "",
        "next": _token(config, *parts, key_frame + 1) if key_frame < last else "",
    }


def _write_cloud(frame: Frame, row: Row, out: Path) -> Row:
    cloud = frame.cloud
    columns = [cloud.point, np.round(cloud.intensity * 255)[:, None], cloud.ring[:, None]]
    write_array(out / row["filename"], np.concatenate(columns, 1).astype(np.float32))
    filename = f"lidarseg/{VERSION}/{row['token']}_lidarseg.bin"
    write_array(out / filename, nuscenes_ids()[cloud.kind])
    return {"token": row["token"], "sample_data_token": row["token"], "filename": filename}


def _annotations(
    config: WorldConfig, scene: Scene, frame: Frame, number: int, key_frame: int, ego_from_lidar: F64
) -> list[Row]:
    """Boxes of everything with an instance number that got an echo."""
    name = scene_name(number)
    points = np.bincount(frame.cloud.instance, minlength=len(scene.things) + 1)
    seen = [thing for thing in scene.things if points[thing.number] > 0]
    shares = _visible_shares(scene, seen, frame.time_s, (frame.world_from_ego @ ego_from_lidar)[:3, 3])
    rows = []
    for thing, share in zip(seen, shares, strict=True):
        low, high = thing.mesh.corner.min((0, 1)), thing.mesh.corner.max((0, 1))
        length, width, height = (high - low).tolist()
        middle = np.eye(4)
        middle[:3, 3] = (low + high) / 2
        rows.append(
            {
                "token": _token(config, "annotation", name, thing.number, key_frame),
                "sample_token": _token(config, "sample", name, key_frame),
                "instance_token": _token(config, "instance", name, thing.number),
                "visibility_token": str(1 + int(np.searchsorted([0.4, 0.6, 0.8], share, side="right"))),
                "attribute_tokens": [_token(config, "attribute", word) for word in _attribute(thing)],
                **_pose(_on_map(thing.pose(scene.street, frame.time_s) @ middle, number)),
                "size": [width, length, height],
                "num_lidar_pts": int(points[thing.number]),
                "num_radar_pts": 0,
            }
        )
    return rows


def _visible_shares(scene: Scene, things: Sequence[Thing], time_s: float, eye: F64) -> list[float]:
    """Share of each thing's triangles facing a place that nothing hides from there (by their middles)."""
    stage, shares = scene.stage(time_s), []
    for thing in things:
        corner = thing.mesh_at(scene.street, time_s).corner
        ray = corner.mean(1) - eye.astype(np.float32)
        distance = np.linalg.norm(ray, axis=-1)
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        facing = (np.einsum("ij,ij->i", normal, ray) < 0) & (distance > 0)
        direction = ray[facing] / distance[facing, None]
        start = np.broadcast_to(eye.astype(np.float32), direction.shape).copy()
        hits = stage.cast(start, direction)
        whole = np.maximum(hits.triangle, 0)
        own = (hits.triangle >= 0) & (stage.attributes.instance[whole] == thing.number)
        shares.append(float(own.mean()) if len(own) else 0.0)
    return shares


def _attribute(thing: Thing) -> list[str]:
    moving = thing.speed > 0
    if thing.kind in (Kind.BARRIER, Kind.CONE):
        return []
    if thing.kind is Kind.PEDESTRIAN:
        return ["pedestrian.moving" if moving else "pedestrian.standing"]
    if thing.kind in (Kind.BICYCLE, Kind.MOTORCYCLE):
        return ["cycle.without_rider"]
    if thing.kind in (Kind.BICYCLIST, Kind.MOTORCYCLIST):
        return ["cycle.with_rider"]
    return ["vehicle.moving" if moving else "vehicle.parked"]


def _instances(config: WorldConfig, annotations: list[Row], scene: Scene, name: str) -> list[Row]:
    """Instance rows; also links each annotation to those of the same thing before and after it."""
    out = []
    for thing in scene.things:
        token = _token(config, "instance", name, thing.number)
        mine = [row for row in annotations if row["instance_token"] == token]
        for i, row in enumerate(mine):
            row["prev"] = mine[i - 1]["token"] if i > 0 else ""
            row["next"] = mine[i + 1]["token"] if i + 1 < len(mine) else ""
        if mine:
            out.append(
                {
                    "token": token,
                    "category_token": _token(config, "category", RAW_LABELS[thing.kind].nuscenes),
                    "nbr_annotations": len(mine),
                    "first_annotation_token": mine[0]["token"],
                    "last_annotation_token": mine[-1]["token"],
                }
            )
    return out


def prepare_folders(out: Path, channels: Sequence[str]) -> None:
    """Make the folders that drives write to."""
    for folder in (*(f"samples/{channel}" for channel in channels), f"lidarseg/{VERSION}", "maps", VERSION):
        (out / folder).mkdir(parents=True, exist_ok=True)


def write_tables(config: WorldConfig, drives: Sequence[Tables], channels: Sequence[str], out: Path) -> None:
    """Write the devkit's tables from the rows of all drives."""
    tables: Tables = {key: [row for drive in drives for row in drive[key]] for key in drives[0]}
    tables["sensor"] = [
        {
            "token": _token(config, "sensor", channel),
            "channel": channel,
            "modality": "lidar" if channel == "LIDAR_TOP" else "camera",
        }
        for channel in channels
    ]
    tables["category"] = [
        {"token": _token(config, "category", name), "name": name, "description": "", "index": index}
        for index, (name, _) in enumerate(NUSCENES_CATEGORIES)
    ]
    tables["attribute"] = [
        {"token": _token(config, "attribute", name), "name": name, "description": ""} for name in _ATTRIBUTES
    ]
    tables["visibility"] = [
        {"token": str(i), "level": level, "description": "share of the faces turned to the LiDAR that it sees"}
        for i, level in enumerate(_VISIBILITIES, 1)
    ]
    map_row = {"token": _token(config, "map"), "category": "semantic_prior", "filename": "maps/blank.png"}
    tables["map"] = [{**map_row, "log_tokens": [row["token"] for row in tables["log"]]}]
    write_image(out / "maps" / "blank.png", np.zeros((8, 8), dtype=np.uint8))  # the devkit wants a file
    for key, rows in tables.items():
        (out / VERSION / f"{key}.json").write_text(json.dumps(rows, indent=0))
