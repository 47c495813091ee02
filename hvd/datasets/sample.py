"""What every reader of a data set gives, samples and their cameras, and the functions that read one sensor file.

H, W: an image's height and width in pixels; N: points of a sweep.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvd.errors import InputError

Float64 = NDArray[np.float64]

MAX_POINTS = 30_000_000
"""Points of a sweep, at most: a hundred times what sensors give, and its arrays still fit in memory."""

_IMAGE_FORMATS = ("JPEG", "PNG")  # what the data sets use; fewer decoders, fewer ways to fail


@dataclass(frozen=True)
class CameraView:
    """One image and where it was taken from."""

    name: str
    path: Path
    width: int
    height: int
    intrinsics: Float64  # (3, 3) pixels
    camera_from_lidar: Float64  # (4, 4) metres, with the ego motion between the two time stamps
    ego_from_camera: Float64  # (4, 4) metres


@dataclass(frozen=True)
class Sample:
    """One LiDAR sweep with the images taken around it; files are named, not read."""

    token: str  # nuScenes: of the LiDAR sweep's sample_data, as in submissions; SemanticKITTI: "sequence/frame"
    scene: str
    points_path: Path
    labels_path: Path | None
    cameras: tuple[CameraView, ...]


def read_records(path: Path, fields: int) -> NDArray[np.float32]:
    """A binary file of little-endian float32 records as (N, fields).

    Raises:
        InputError: the file is missing, its size is no multiple of a record, or it holds more than `MAX_POINTS`.
    """
    record = 4 * fields
    data = _read(path, "point file", MAX_POINTS * record)
    if len(data) % record:
        raise InputError("truncated point file", where=path, why=f"{len(data)} bytes are no multiple of {record}")
    return data.view("<f4").reshape(-1, fields)


def read_label_file(sample: Sample, num_points: int, dtype: str) -> NDArray[Any]:
    """A sample's label file as (N,) integers of `dtype`.

    Raises:
        InputError: the sample has no labels, or another number of them than points.
    """
    path = sample.labels_path
    if path is None:
        raise InputError("no labels for sample", where=sample.token, hint="choose a split that has labels")
    data = _read(path, "label file", MAX_POINTS * np.dtype(dtype).itemsize)
    count = len(data) / np.dtype(dtype).itemsize
    if count != num_points:
        raise InputError("label count differs", where=path, why=f"{count:.12g} labels, {num_points} points")
    return data.view(dtype)


def _read(path: Path, kind: str, max_bytes: int) -> NDArray[np.uint8]:
    try:
        size = _regular_size(path)
        if size > max_bytes:
            raise InputError(f"the {kind} is too large", where=path, why=f"{size} bytes, more than {max_bytes}")
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"cannot read the {kind}", where=path, why=error.strerror or str(error)) from None


def _regular_size(path: Path) -> int:
    """Size in bytes; opening a pipe or a device could wait for ever."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found.st_size


def read_rgb(view: CameraView) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG image as (H, W, 3).

    Raises:
        InputError: missing, truncated, not in colour, or not of the size that the tables state.
    """
    try:
        _regular_size(view.path)
        with Image.open(view.path, formats=_IMAGE_FORMATS) as image:
            found = (image.mode, *image.size)
            if found != ("RGB", view.width, view.height):
                expected = f"RGB {view.width}x{view.height}"
                raise InputError("wrong image", where=view.path, why="{} {}x{}, not ".format(*found) + expected)
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None)  # of the system: missing, not ours to read
        what = "cannot read the image" if reason else "cannot decode the image"
        raise InputError(what, where=view.path, why=reason or str(error)) from None
