"""nuScenes key frames with lidarseg labels, read from the published tables of any version.

The tables are read here, not by the devkit: it dies of KeyError on a bad one, needs maps, and holds every sweep of the
full data set. Tests compare the result with it. From the devkit comes the list of official splits.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.fingerprint import check_layout
from hvd.datasets.labels import NUSCENES_CATEGORIES
from hvd.datasets.sample import CameraView, Sample, read_label_file, read_records, read_rgb
from hvd.datasets.splits import Splits, parametrize, present, splits_of
from hvd.datasets.tables import Record, Table, read_table
from hvd.errors import InputError
from hvd.geometry.se3 import Float64, from_quaternion, inverse

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
"""All cameras, clockwise; those that the version's sensor table lists are expected in every sample."""

LIDAR = "LIDAR_TOP"

POINT_FIELDS = 5  # x, y, z, intensity, ring
_MAX_INTENSITY = 255.0
_MAX_PIXELS = 65535  # a side of a JPEG
_MIN_DETERMINANT = 1e-6  # square pixels: below, the intrinsic matrix can't be inverted


@dataclass(frozen=True)
class NuScenesDataset:
    """An opened nuScenes folder."""

    root: Path
    samples: tuple[Sample, ...]
    name: str = "nuscenes"

    def read_points(self, sample: Sample) -> NDArray[np.float32]:
        """Points (N, 4): x, y, z in metres, LiDAR frame, and intensity / 255.

        Raises:
            InputError: missing, or its size is no multiple of the record's 20 bytes.
        """
        points = read_records(sample.points_path, POINT_FIELDS)[:, :4].copy()
        points[:, 3] /= _MAX_INTENSITY
        return points

    def read_labels(self, sample: Sample, num_points: int) -> NDArray[np.uint16]:
        """Raw class ids (N,).

        Raises:
            InputError: no labels, or another number of them than points.
        """
        return read_label_file(sample, num_points, "u1").astype(np.uint16)

    def read_image(self, view: CameraView) -> NDArray[np.uint8]:
        """The image (H, W, 3), RGB.

        Raises:
            InputError: missing, truncated, grey or of the wrong size.
        """
        return read_rgb(view)

    def splits(self, kind: str) -> Splits:
        """Scene names by split, those present: the folder's own splits.json, or else the official ones.

        Raises:
            InputError: a malformed splits.json.
        """
        scenes = {sample.scene for sample in self.samples}
        return present(splits_of(self.root, kind, official_splits), scenes)


def official_splits(kind: str) -> Splits:
    """All scenes of nuScenes by split: the benchmark's lists for `paper`, SLidR's for `parametrize`."""
    from nuscenes.utils.splits import create_splits_scenes  # noqa: TID251  this is the one file

    official = create_splits_scenes()
    if kind == "parametrize":
        return parametrize(official["train"])
    return {split: tuple(official[split]) for split in ("train", "val", "test")}


def open_nuscenes(root: Path, version: str) -> NuScenesDataset:
    """Open a nuScenes folder; sensor files are read later.

    Raises:
        InputError: a missing or malformed table, a dangling token, a missing sensor, a pose or intrinsic matrix that
            is none, naming table, token and field.
    """
    check_layout(root, "nuscenes", version)
    return NuScenesDataset(root, _Tables(root, version).samples())


def frame_scenes(root: Path, version: str) -> tuple[str, ...]:
    """The scene of every sample, in table order, without opening the large tables.

    Raises:
        InputError: a missing or malformed table, or a dangling token.
    """
    scene, sample = (read_table(root / version, name) for name in ("scene", "sample"))
    tokens = (sample.text(record, "scene_token") for record in sample)
    return tuple(scene.text(scene.get(token, "a sample"), "name") for token in tokens)


class _Tables:
    """The tables of one version, joined into samples."""

    def __init__(self, root: Path, version: str) -> None:
        folder = root / version
        self.root = root
        self.scene = read_table(folder, "scene")
        self.sample = read_table(folder, "sample")
        self.sensor = read_table(folder, "sensor")
        self.calibration = read_table(folder, "calibrated_sensor")
        self.data = read_table(folder, "sample_data", keep=lambda record: record.get("is_key_frame") is True)
        poses = {self.data.text(record, "ego_pose_token") for record in self.data}
        self.pose = read_table(folder, "ego_pose", keep=lambda record: str(record.get("token")) in poses)
        self.label_files = _label_files(folder)
        listed = {self.sensor.text(record, "channel") for record in self.sensor}
        self.cameras = tuple(name for name in CAMERAS if name in listed)

    def samples(self) -> tuple[Sample, ...]:
        """All samples, scene by scene in order of the scene table, each scene in order of time."""
        frames = self._frames_by_scene()
        views = self._data_by_sample()
        return tuple(
            self._sample(record, views[record["token"]], self.scene.text(scene, "name"))
            for scene in self.scene
            for record in frames[scene["token"]]
        )

    def _frames_by_scene(self) -> dict[str, list[Record]]:
        frames: dict[str, list[Record]] = defaultdict(list)
        for record in self.sample:
            scene_token = self.sample.text(record, "scene_token")
            self.scene.get(scene_token, f"sample {record['token']}")
            frames[scene_token].append(record)
        for records in frames.values():
            records.sort(key=lambda record: self.sample.whole(record, "timestamp"))
        return frames

    def _data_by_sample(self) -> dict[str, dict[str, Record]]:
        views: dict[str, dict[str, Record]] = defaultdict(dict)
        for record in self.data:
            sample_token = self.data.text(record, "sample_token")
            self.sample.get(sample_token, f"sample_data {record['token']}")
            channel = self._channel(record)
            if channel in views[sample_token]:
                self.data.bad(record, "sample_token", f"{sample_token} has two {channel} key frames")
            views[sample_token][channel] = record
        return views

    def _channel(self, data: Record) -> str:
        calibration = self._calibration(data)
        sensor_token = self.calibration.text(calibration, "sensor_token")
        return self.sensor.text(self.sensor.get(sensor_token, f"calibrated_sensor {calibration['token']}"), "channel")

    def _calibration(self, data: Record) -> Record:
        token = self.data.text(data, "calibrated_sensor_token")
        return self.calibration.get(token, f"sample_data {data['token']}")

    def _sample(self, sample: Record, views: dict[str, Record], scene: str) -> Sample:
        for channel in (LIDAR, *self.cameras):
            if channel not in views:
                self.sample.bad(sample, channel, "the sample has no such key frame")
        lidar = views[LIDAR]
        global_from_lidar = self._global_from_ego(lidar) @ self._ego_from_sensor(lidar)
        return Sample(
            token=lidar["token"],
            scene=scene,
            points_path=self._path(lidar),
            labels_path=self._labels_path(lidar["token"]),
            cameras=tuple(self._view(name, views[name], global_from_lidar) for name in self.cameras),
        )

    def _view(self, name: str, data: Record, global_from_lidar: Float64) -> CameraView:
        ego_from_camera = self._ego_from_sensor(data)
        global_from_camera = self._global_from_ego(data) @ ego_from_camera
        return CameraView(
            name=name,
            path=self._path(data),
            width=self._pixels(data, "width"),
            height=self._pixels(data, "height"),
            intrinsics=self._intrinsics(data),
            camera_from_lidar=inverse(global_from_camera) @ global_from_lidar,
            ego_from_camera=ego_from_camera,
        )

    def _pixels(self, data: Record, field: str) -> int:
        size = self.data.whole(data, field)
        if not 0 < size <= _MAX_PIXELS:
            self.data.bad(data, field, "no size of an image")
        return size

    def _path(self, data: Record) -> Path:
        return self.root / _inside(self.data, data)

    def _labels_path(self, lidar_token: str) -> Path | None:
        name = self.label_files.get(lidar_token)
        return None if name is None else self.root / name

    def _ego_from_sensor(self, data: Record) -> Float64:
        return _pose(self.calibration, self._calibration(data))

    def _global_from_ego(self, data: Record) -> Float64:
        token = self.data.text(data, "ego_pose_token")
        return _pose(self.pose, self.pose.get(token, f"sample_data {data['token']}"))

    def _intrinsics(self, data: Record) -> Float64:
        record = self._calibration(data)
        intrinsics = self.calibration.numbers(record, "camera_intrinsic", (3, 3))
        if abs(np.linalg.det(intrinsics)) < _MIN_DETERMINANT or intrinsics[2].tolist() != [0.0, 0.0, 1.0]:
            self.calibration.bad(record, "camera_intrinsic", "a singular matrix, or its last row is not 0 0 1")
        return intrinsics


def _pose(table: Table, record: Record) -> Float64:
    rotation = table.numbers(record, "rotation", (4,))
    translation = table.numbers(record, "translation", (3,))
    try:
        return from_quaternion(rotation, translation)
    except ValueError as error:
        table.bad(record, "rotation", str(error))


def _inside(table: Table, record: Record) -> Path:
    """The file that a record names, relative to the root and below it."""
    path = Path(table.text(record, "filename"))
    if path.is_absolute() or ".." in path.parts:
        table.bad(record, "filename", f"{path} leads out of the data set")
    return path


def _label_files(folder: Path) -> dict[str, Path]:
    """Label file by LiDAR token; none for a version without labels.

    Raises:
        InputError: the categories are not numbered as the benchmark has them.
    """
    if not (folder / "lidarseg.json").is_file():
        return {}
    category = read_table(folder, "category")
    if not any("index" in record for record in category):
        why, hint = "no category has an index", "unpack nuScenes-lidarseg last: its table replaces the other"
        raise InputError("not the categories of nuScenes-lidarseg", where=category.path, why=why, hint=hint)
    for record in category:
        index, name = category.whole(record, "index"), category.text(record, "name")
        if not 0 <= index < len(NUSCENES_CATEGORIES) or NUSCENES_CATEGORIES[index][0] != name:
            category.bad(record, "index", f"{name} is not number {index} of nuScenes-lidarseg")
    table = read_table(folder, "lidarseg")
    return {table.text(record, "sample_data_token"): _inside(table, record) for record in table}
