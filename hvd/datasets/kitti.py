"""KITTI's object benchmark: single sweeps, the left colour camera and boxes. N points, M boxes.

The frame ids of `training/`, or of the version `testing`, are the tokens and, as there are no scenes, the scenes:
splits list them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hvd import log
from hvd.datasets.fingerprint import KITTI_TEST, check_layout, kitti_folder, point_files
from hvd.datasets.kitti_files import Calibration, Objects, read_calibration, read_labels
from hvd.datasets.sample import CameraView, Sample, read_records, read_rgb
from hvd.datasets.splits import Splits, own_splits, present
from hvd.errors import InputError
from hvd.geometry.boxes import image_boxes, observation_angle, rect_from_lidar_boxes
from hvd.geometry.camera import project
from hvd.geometry.se3 import inverse

POINT_FIELDS = 4  # x, y, z, reflectance 0..1
CAMERA = "image_2"
_HELD_OUT = 7  # one training frame of seven
"""What the benchmark scores."""


@dataclass(frozen=True)
class KittiDataset:
    """An opened KITTI folder."""

    root: Path
    samples: tuple[Sample, ...]
    version: str | None = None
    name: str = "kitti"

    def read_points(self, sample: Sample) -> NDArray[np.float32]:
        """Points (N, 4): x, y, z in metres, LiDAR frame, and reflectance as recorded.

        Raises:
            InputError: missing, or its size is no multiple of the record's 16 bytes.
        """
        return read_records(sample.points_path, POINT_FIELDS)

    def read_image(self, view: CameraView) -> NDArray[np.uint8]:
        """The image (H, W, 3), RGB, cut at the right and at the bottom to the view's size.

        Raises:
            InputError: missing, truncated, not in colour, or smaller than the view.
        """
        width, height = image_size(view.path)
        if width < view.width or height < view.height:
            raise InputError("wrong image", where=view.path, why=f"{width}x{height}, not {view.width}x{view.height}")
        return read_rgb(replace(view, width=width, height=height))[: view.height, : view.width]

    def read_calibration(self, sample: Sample) -> Calibration:
        """How the sensors of a sample lie to each other.

        Raises:
            InputError: the file is missing or malformed.
        """
        return read_calibration(_calibration_path(kitti_folder(self.root, self.version), sample.token))

    def read_objects(self, sample: Sample) -> Objects:
        """The labelled objects of a sample, DontCare areas among them.

        Raises:
            InputError: no labels, or a malformed file.
        """
        if sample.labels_path is None:
            raise InputError("no labels for sample", where=sample.token, hint="choose a split that has labels")
        return read_labels(sample.labels_path)

    def read_labels(self, sample: Sample, num_points: int) -> NDArray[np.uint16]:
        """Labels of points: this data set has boxes only.

        Raises:
            InputError: always.
        """
        raise InputError("kitti labels boxes, not points", where=sample.token, hint="use semkitti for segmentation")

    def splits(self, kind: str) -> Splits:
        """Frames by split, those present: see `split_lists`; says how many of a list are absent. Of `testing` all test.

        Raises:
            InputError: a malformed splits.json, a list that can't be read, or lists that name no frame that is here.
        """
        frames = [sample.scene for sample in self.samples]
        if self.version == KITTI_TEST:
            return all_test(frames)
        lists = split_lists(self.root, frames, kind)
        found = present(lists, set(frames))
        absent = sorted({name for part in ("train", "val") for name in lists.get(part, ())} - set(frames))
        if kind == "paper" and not any(found.values()):
            raise InputError("the splits name no frame that is here", where=self.root, why=", ".join(absent[:3]))
        if absent and kind == "paper":
            log.warn(f"{self.root}: its splits name {len(absent)} frames that are not here; the first: {absent[0]}")
        if kind == "paper" and own_splits(self.root, kind) is None and _image_sets(self.root) is None:
            log.warn(
                f"{self.root}: no ImageSets/train.txt and val.txt; frames of even number train and those of odd number"
                " are scored: both show the same drives, and figures come out too high"
            )
        return found


def open_kitti(root: Path, version: str | None = None, *, one_size: bool = False) -> KittiDataset:
    """Open a folder that holds training/velodyne, calib, image_2 and perhaps label_2, or testing/ with the same.

    Calibrations and the sizes of images are read now, points, images and labels later.

    Args:
        root: the folder above training.
        version: `testing`, or None for training.
        one_size: cut all images to the smallest width and height among them (KITTI's differ by up to 18 columns and 6
            rows), so that they fit in one array; pixel coordinates stay what they are. An image whose size can't be
            read takes that size: reading it fails in its turn, and `--skip-bad` can leave it out.

    Raises:
        InputError: there is no such folder, or a calibration or an image is missing or malformed.
    """
    check_layout(root, "kitti", version)
    folder = kitti_folder(root, version)
    has_labels = (folder / "label_2").is_dir()
    size_of = _size_or_none if one_size else image_size
    samples = tuple(_sample(folder, path.stem, has_labels, size_of) for path in point_files(folder / "velodyne"))
    return KittiDataset(root, _cut(samples) if one_size else samples, version)


_NO_SIZE = (0, 0)


def _size_or_none(path: Path) -> tuple[int, int]:
    try:
        return image_size(path)
    except InputError:
        return _NO_SIZE


def _sample(folder: Path, token: str, has_labels: bool, size_of: Callable[[Path], tuple[int, int]]) -> Sample:
    calibrated = _calibration_path(folder, token)
    if not calibrated.is_file():
        hint = "restore it, or take its sweep out of velodyne: --skip-bad is for sweeps and images"
        raise InputError("no calibration", where=calibrated, hint=hint)
    calibration = read_calibration(calibrated)
    path = folder / CAMERA / f"{token}.png"
    width, height = size_of(path)
    view = CameraView(
        name=CAMERA,
        path=path,
        width=width,
        height=height,
        intrinsics=calibration.intrinsics,
        camera_from_lidar=calibration.camera_from_lidar,
        ego_from_camera=inverse(calibration.camera_from_lidar),  # the LiDAR stands for the vehicle
    )
    return Sample(
        token=token,
        scene=token,
        points_path=folder / "velodyne" / f"{token}.bin",
        labels_path=folder / "label_2" / f"{token}.txt" if has_labels else None,
        cameras=(view,),
    )


def _calibration_path(folder: Path, token: str) -> Path:
    return folder / "calib" / f"{token}.txt"


def _cut(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Samples whose views all have the smallest width and height; raises InputError if no image has a size."""
    views = [sample.cameras[0] for sample in samples]
    sizes = [(view.width, view.height) for view in views if (view.width, view.height) != _NO_SIZE]
    if not sizes:
        image_size(views[0].path)
    width, height = (min(size) for size in zip(*sizes, strict=True))
    return tuple(
        replace(sample, cameras=(replace(sample.cameras[0], width=width, height=height),)) for sample in samples
    )


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of a PNG, from its header.

    Raises:
        InputError: missing, or no PNG.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.size
    except UnidentifiedImageError:
        raise InputError("no PNG image", where=path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            "cannot read the image", where=path, why=getattr(error, "strerror", None) or str(error)
        ) from None


def shown_by(points: NDArray[Any], calibration: Calibration, width: int, height: int) -> NDArray[np.bool_]:
    """Which points (N, 3 or more) lie in front of the camera and project into the image: 0 <= u < width and so on.

    Boxes outside of the image were not annotated.
    """
    uv, depth = project(points[:, :3], calibration.camera_from_lidar, calibration.intrinsics)
    inside: NDArray[np.bool_] = (uv >= 0).all(axis=1) & (uv < [width, height]).all(axis=1)
    return inside & (depth > 0)


def split_lists(root: Path, frames: Sequence[str], kind: str) -> Splits:
    """Frames by split; those of a list need not be present.

    The folder's own splits.json, for a kind of splits; or else the lists of its ImageSets (train and val); or else
    frames of even number train and those of odd number are scored. The last is a rule for folders that come without
    lists: KITTI numbers its frames at random, so both halves see the same drives and figures come out too high.
    `parametrize` holds out every seventh training frame, of the same drives too.

    Raises:
        InputError: a malformed splits.json, or a list that can't be read.
    """
    own = own_splits(root, kind)
    if own is not None:
        return own
    lists = _image_sets(root) or even_odd(frames)
    return lists if kind == "paper" else hold_out(lists["train"])


def all_test(frames: Sequence[str]) -> Splits:
    """The splits of `testing`: all its frames are to be sent to the benchmark's server."""
    return {"train": (), "val": (), "test": tuple(frames)}


def hold_out(train: Sequence[str]) -> Splits:
    """Training frames in two: every seventh to choose hyper-parameters on, the others to train on."""
    held_out = tuple(train[_HELD_OUT - 1 :: _HELD_OUT])
    return {"train": tuple(name for name in train if name not in set(held_out)), "val": held_out}


def even_odd(frames: Sequence[str]) -> Splits:
    """Frames of even number to train on, frames of odd number to score; a name that is no number counts as odd."""
    even = {name for name in frames if name.isdecimal() and int(name) % 2 == 0}
    return {"train": tuple(n for n in frames if n in even), "val": tuple(n for n in frames if n not in even)}


def _image_sets(root: Path) -> Splits | None:
    """The lists of ImageSets, or None if there is neither train.txt nor val.txt."""
    folder = root / "ImageSets"
    if not (folder / "train.txt").is_file() and not (folder / "val.txt").is_file():
        return None
    paths = {split: folder / f"{split}.txt" for split in ("train", "val")}
    found = {split: tuple(_words(path)) if path.is_file() else () for split, path in paths.items()}
    return {**found, "test": ()}  # test.txt names frames of testing/ by the same numbers


def _words(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read", where=path, why=str(error)) from None


def detected_objects(
    boxes_lidar: NDArray[np.floating[Any]],
    types: Sequence[str],
    scores: NDArray[np.floating[Any]],
    calibration: Calibration,
    width: int,
    height: int,
) -> Objects:
    """Detections as the benchmark wants them; what the image doesn't show is left out, as no label covers it.

    Args:
        boxes_lidar: (M, 7), see `hvd.geometry.boxes`.
        types: (M,) class names.
        scores: (M,) higher is surer.
        calibration: of the frame.
        width, height: of its image in pixels.
    """
    rect = rect_from_lidar_boxes(boxes_lidar, calibration.rect_from_lidar)
    box2d = image_boxes(rect, calibration.image_from_rect, width, height)
    objects = Objects(
        types=tuple(types),
        truncation=np.full(len(rect), -1.0),
        occlusion=np.full(len(rect), -1),
        alpha=observation_angle(rect),
        box2d=box2d,
        box3d=rect,
        score=np.asarray(scores, np.float64),
    )
    return objects.take((box2d[:, 2] > box2d[:, 0]) & (box2d[:, 3] > box2d[:, 1]))
