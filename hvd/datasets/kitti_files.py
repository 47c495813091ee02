"""KITTI's text files: labels, results and calibration, as the object development kit's readme defines them. N objects.

A label has 15 fields: type, truncation, occlusion, alpha, 2D box (left, top, right, bottom), height, width, length,
x, y, z, rotation_y. A result has the score as the 16th.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.errors import InputError
from hvd.geometry.se3 import Float64, inverse

TYPES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")
DONT_CARE = "DontCare"

LABEL_FIELDS = 15
_NAMES = (
    *("type", "truncation", "occlusion", "alpha", "left", "top", "right", "bottom"),
    *("height", "width", "length", "x", "y", "z", "rotation_y", "score"),
)
_CANONICAL = {name.lower(): name for name in TYPES}  # the benchmark's program doesn't mind the case
_SIZE = slice(8, 11)
_OCCLUSIONS = (-1, 0, 1, 2, 3)  # nobody looks at a result's
_UNKNOWN_SIZE = -1.0  # what a DontCare area and a detection in 2D alone have for a size
_SMALLEST_M = 0.01  # the last digit that is written


@dataclass(frozen=True)
class Objects:
    """What one label file or one result file holds; a row each."""

    types: tuple[str, ...]  # (N,) of TYPES
    truncation: Float64  # (N,) 0..1; -1 unknown
    occlusion: NDArray[np.int64]  # (N,) 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 not given
    alpha: Float64  # (N,) observation angle in radians; -10 unknown
    box2d: Float64  # (N, 4) left, top, right, bottom in pixels
    box3d: Float64  # (N, 7) `boxes_rect` of hvd.geometry.boxes; -1 -1 -1 -1000 -1000 -1000 -10 unknown
    score: Float64 | None = None  # (N,) of a result, higher is surer

    def __len__(self) -> int:
        return len(self.types)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> "Objects":
        """The objects of some rows (indices or a mask)."""
        index = np.arange(len(self))[np.asarray(rows, dtype=None if len(rows) else np.int64)]
        return Objects(
            types=tuple(self.types[i] for i in index),
            truncation=self.truncation[index],
            occlusion=self.occlusion[index],
            alpha=self.alpha[index],
            box2d=self.box2d[index],
            box3d=self.box3d[index],
            score=None if self.score is None else self.score[index],
        )

    def of(self, *types: str) -> "Objects":
        """The objects of some types, in order."""
        return self.take([row for row, name in enumerate(self.types) if name in types])


def read_labels(path: Path) -> Objects:
    """Read a label file.

    Raises:
        InputError: missing; or a line with another number of fields than 15, an unknown type, a value that is no
            finite number, or a box without size; naming file and line.
    """
    return _read_objects(path, LABEL_FIELDS)


def read_results(path: Path) -> Objects:
    """Read a result file, which may be empty.

    Raises:
        InputError: as `read_labels`, but the fields are 16: a score is missing or not finite.
    """
    return _read_objects(path, LABEL_FIELDS + 1)


def _read_objects(path: Path, fields: int) -> Objects:
    lines = [(number, line.split()) for number, line in enumerate(_read_text(path).split("\n"), 1) if line.strip()]
    types = tuple(_type_of(words, f"{path}, line {number}", fields) for number, words in lines)
    numbers = [
        _numbers_of(words, f"{path}, line {number}", name) for (number, words), name in zip(lines, types, strict=True)
    ]
    table = np.array(numbers, np.float64).reshape(len(numbers), fields - 1)
    return Objects(
        types=types,
        truncation=table[:, 0],
        occlusion=table[:, 1].clip(_OCCLUSIONS[0], _OCCLUSIONS[-1]).astype(np.int64),
        alpha=table[:, 2],
        box2d=table[:, 3:7],
        box3d=table[:, 7:14],
        score=table[:, 14] if fields > LABEL_FIELDS else None,
    )


def _type_of(words: list[str], where: str, fields: int) -> str:
    if len(words) != fields:
        hint = {15: "a result needs a score", 16: "a label has no score"}.get(len(words), "")
        raise InputError("wrong number of fields", where=where, why=f"{len(words)}, expected {fields}", hint=hint)
    name = _CANONICAL.get(words[0].lower())
    if name is None:
        raise InputError(f"unknown class {words[0][:40]!r}", where=where, hint=f"known: {', '.join(TYPES)}")
    return name


def _numbers_of(words: list[str], where: str, name: str) -> list[float]:
    values = [_finite(word, f"{where}, {field}") for word, field in zip(words[1:], _NAMES[1:], strict=False)]
    is_result = len(words) > LABEL_FIELDS
    if not is_result and values[1] not in _OCCLUSIONS:
        raise InputError("occlusion is none of -1, 0, 1, 2, 3", where=where, why=words[2])
    unknown = values[7:10] == [_UNKNOWN_SIZE] * 3 and (name == DONT_CARE or is_result)
    if not unknown and min(values[7:10]) <= 0:
        raise InputError("box without size", where=where, why="height, width, length " + " ".join(words[_SIZE]))
    if values[5] < values[3] or values[6] < values[4]:
        raise InputError("2D box turned round", where=where, why="left, top, right, bottom " + " ".join(words[4:8]))
    return values


def _finite(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError("not a finite number", where=where, why=word[:40])
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise InputError("cannot read", where=path, why=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise InputError("no text file", where=path, why=f"byte {error.start}") from None


def write_objects(path: Path, objects: Objects) -> None:
    """Write a label file, or with scores a result file, with the benchmark's two decimals.

    A size below 0.01 m is written as 0.01: it would read as a box without size.

    Raises:
        ValueError: a value is not finite.
    """
    path.write_text("".join(f"{line}\n" for line in format_objects(objects)), encoding="ascii")


def format_objects(objects: Objects) -> list[str]:
    """The lines of a label or result file.

    Raises:
        ValueError: a value is not finite.
    """
    size, rest = objects.box3d[:, :3], objects.box3d[:, 3:]
    size = np.where(size > 0, np.maximum(size, _SMALLEST_M), size)
    table = np.concatenate([objects.alpha[:, None], objects.box2d, size, rest], axis=1)
    scores = [""] * len(objects) if objects.score is None else [f" {score:.9g}" for score in objects.score]
    if not np.isfinite(table).all() or not np.isfinite(objects.truncation).all() or not _all_finite(objects.score):
        raise ValueError("an object to be written holds a value that is not finite")
    return [
        f"{name} {truncation:.2f} {occlusion} {' '.join(f'{value:.2f}' for value in row)}{score}"
        for name, truncation, occlusion, row, score in zip(
            objects.types, objects.truncation, objects.occlusion, table, scores, strict=True
        )
    ]


def _all_finite(values: Float64 | None) -> bool:
    return values is None or bool(np.isfinite(values).all())


@dataclass(frozen=True)
class Calibration:
    """How the LiDAR, the frame of the labels and the left colour camera lie to each other."""

    image_from_rect: Float64  # (3, 4) KITTI's P2: pixels from the rectified frame of the reference camera
    rect_from_lidar: Float64  # (4, 4) the frame of the labels: R0_rect after Tr_velo_to_cam

    @property
    def intrinsics(self) -> Float64:
        """(3, 3) pixels, with last row 0 0 1."""
        return self.image_from_rect[:, :3]

    @property
    def camera_from_rect(self) -> Float64:
        """(4, 4): the colour camera stands beside the reference camera, by inv(K) times the last column of P2."""
        camera_from_rect = np.eye(4)
        camera_from_rect[:3, 3] = inverse(self.intrinsics) @ self.image_from_rect[:, 3]
        return camera_from_rect

    @property
    def camera_from_lidar(self) -> Float64:
        """(4, 4) such that K (R p + t) is P2 R0_rect Tr_velo_to_cam p exactly, depth included."""
        camera_from_lidar: Float64 = self.camera_from_rect @ self.rect_from_lidar
        return camera_from_lidar


def read_calibration(path: Path) -> Calibration:
    """Read P2, R0_rect and Tr_velo_to_cam.

    Raises:
        InputError: the file or a line is missing, or a matrix has another number of values, one that is not finite, or
            is no camera or rotation.
    """
    rows = [(number, *line.partition(":")) for number, line in enumerate(_read_text(path).split("\n"), 1)]
    lines = {
        key.strip(): (f"{path}, line {number}, {key.strip()}", rest.split())
        for number, key, colon, rest in rows
        if colon
    }
    projection = _matrix(lines, path, "P2", (3, 4))
    rect_from_camera, camera_from_velo = np.eye(4), np.eye(4)
    rect_from_camera[:3, :3] = _matrix(lines, path, "R0_rect", (3, 3))
    camera_from_velo[:3] = _matrix(lines, path, "Tr_velo_to_cam", (3, 4))
    if not np.array_equal(projection[2, :3], [0.0, 0.0, 1.0]) or not projection[0, 0] * projection[1, 1] > 0:
        raise InputError("no camera", where=lines["P2"][0], why="the last row is not 0 0 1, or a focal length is zero")
    for key, matrix in (("R0_rect", rect_from_camera), ("Tr_velo_to_cam", camera_from_velo)):
        if np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() > _ROTATION_TOLERANCE:
            raise InputError("no rotation", where=lines[key][0])
    return Calibration(projection, rect_from_camera @ camera_from_velo)


_ROTATION_TOLERANCE = 1e-3  # the files carry seven digits


def _matrix(lines: dict[str, tuple[str, list[str]]], path: Path, key: str, shape: tuple[int, int]) -> Float64:
    if key not in lines:
        raise InputError("missing calibration", where=path, why=f"no line {key}")
    where, words = lines[key]
    if len(words) != shape[0] * shape[1]:
        raise InputError("bad calibration", where=where, why=f"{len(words)} values, expected {shape[0] * shape[1]}")
    return np.array([_finite(word, where) for word in words]).reshape(shape)


def format_calibration(calibration: Calibration) -> str:
    """The text of a calibration file: one camera stands for all four, and the LiDAR for the inertial unit."""
    rotation = np.eye(3)  # of the rectification: in Tr_velo_to_cam already
    unit = np.eye(4)[:3]
    matrices = {
        **{f"P{camera}": calibration.image_from_rect for camera in range(4)},
        "R0_rect": rotation,
        "Tr_velo_to_cam": calibration.rect_from_lidar[:3],
        "Tr_imu_to_velo": unit,
    }
    return "".join(f"{key}: {' '.join(f'{v:.12e}' for v in matrix.ravel())}\n" for key, matrix in matrices.items())
