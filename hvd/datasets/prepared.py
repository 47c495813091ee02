"""Prepared data on disk: immutable Zarr v3 parts of some tens of frames, in a schema that other programs read.

P: points of a part, M: its pairs, F: its frames, K: cameras. Ragged arrays lie end to end; offsets say where a frame
begins.
"""

import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import disk
from cache.failpoint import failpoint
from hvd.datasets.chunks import ChunkedArray, near_one_item, read_attributes, write_array
from hvd.errors import CorruptError, InputError
from hvd.geometry.camera import Pairs

if TYPE_CHECKING:
    import zarr

SCHEMA = 1

_RAGGED = ("point", "pair_point", "pair_camera", "pair_uv", "pair_depth")
_PER_FRAME = ("intrinsics", "camera_from_lidar", "ego_from_camera")


@dataclass(frozen=True)
class Frame:
    """One prepared key frame."""

    token: str
    scene: str
    point: NDArray[np.float32]  # (P, 4) x y z in metres, LiDAR frame; intensity 0..1
    pairs: Pairs
    intrinsics: NDArray[np.float32]  # (K, 3, 3) pixels of the original image
    camera_from_lidar: NDArray[np.float64]  # (K, 4, 4)
    ego_from_camera: NDArray[np.float64]  # (K, 4, 4)
    sparse_depth: NDArray[np.float32]  # (K, h, w) metres, 0 = none


def part_path(folder: Path, number: int) -> Path:
    """Where part `number` lies."""
    return folder / f"part-{number:05d}.zarr"


def write_frames(path: Path, frames: Sequence[Frame], attributes: Mapping[str, Any]) -> None:
    """Write one part of frames (at least one), complete or not at all.

    Raises:
        FileExistsError: the part is there already.
    """
    with _new_part(path, attributes) as group:
        _write_text(group, "token", [frame.token for frame in frames])
        _write_text(group, "scene", [frame.scene for frame in frames])
        point_counts = [len(frame.point) for frame in frames]
        pair_counts = [len(frame.pairs) for frame in frames]
        _write_offsets(group, "point_offset", point_counts)
        _write_offsets(group, "pair_offset", pair_counts)
        write_array(group, "point", np.concatenate([frame.point for frame in frames]), near_one_item(point_counts))
        for field in ("point", "camera", "uv", "depth"):
            values = np.concatenate([getattr(frame.pairs, field) for frame in frames])
            write_array(group, f"pair_{field}", values, near_one_item(pair_counts))
        for name in _PER_FRAME:
            write_array(group, name, np.stack([getattr(frame, name) for frame in frames]), len(frames))
        write_array(group, "sparse_depth", np.stack([frame.sparse_depth for frame in frames]), 1)


def write_labels(path: Path, labels: Sequence[NDArray[np.uint16]]) -> None:
    """Write one part of raw class ids, one array (P,) for each frame, complete or not at all.

    Raises:
        FileExistsError: the part is there already.
    """
    counts = [len(label) for label in labels]
    with _new_part(path, {}) as group:
        _write_offsets(group, "point_offset", counts)
        write_array(group, "label", np.concatenate(labels).astype(np.uint16), near_one_item(counts))


def write_arrays(path: Path, name: str, arrays: Iterable[NDArray[Any]], attributes: Mapping[str, Any]) -> None:
    """Write one part of equally shaped arrays, one for each frame, complete or not at all.

    `arrays` is an array (F, ...) or anything that yields one frame after another: only one is held in memory.

    Raises:
        FileExistsError: the part is there already.
    """
    with _new_part(path, attributes) as group:
        array = None
        for values in arrays:
            if array is None:
                array = write_array(group, name, values[None], 1)
            else:
                failpoint("part.append")
                array.append(values[None])


@contextmanager
def _new_part(path: Path, attributes: Mapping[str, Any]) -> Iterator["zarr.Group"]:
    """A group that appears under `path` only once it is complete."""
    import zarr

    if path.exists():
        raise FileExistsError(f"{path} exists; parts are immutable")
    unfinished = path.with_name(path.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        failpoint("part.create")
        yield zarr.create_group(unfinished, attributes={"schema": SCHEMA, **attributes})
        disk.flush_tree(unfinished, "part")  # a part that is there counts as finished, so its bytes come first
        disk.rename(unfinished, path, "part")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_text(group: "zarr.Group", name: str, values: Sequence[str]) -> None:
    write_array(group, name, np.array(values, dtype=object), len(values))


def _write_offsets(group: "zarr.Group", name: str, counts: Sequence[int]) -> None:
    write_array(group, name, np.array([0, *accumulate(counts)], dtype=np.int64), len(counts) + 1)


class Frames:
    """The frames of an artifact's folder, in order; small arrays are read once, at the start."""

    def __init__(self, folder: Path) -> None:
        """Open all parts.

        Raises:
            CorruptError: no part, a gap in their numbers, or damaged metadata.
            InputError: written by a newer version.
        """
        self._parts = [_FramesPart(path) for path in _parts(folder)]
        self._starts = _starts(self._parts)
        self.attributes = read_attributes(self._parts[0].path)
        self.tokens: tuple[str, ...] = tuple(token for part in self._parts for token in part.tokens)
        self.scenes: tuple[str, ...] = tuple(scene for part in self._parts for scene in part.scenes)
        self.num_points = np.concatenate([np.diff(part.point_offset) for part in self._parts])  # (F,)
        self.num_pairs = np.concatenate([np.diff(part.pair_offset) for part in self._parts])  # (F,)

    def __len__(self) -> int:
        return len(self.tokens)

    def frame(self, index: int) -> Frame:
        """Frame `index`.

        Raises:
            CorruptError: naming the file that is missing or damaged.
            IndexError: there is no such frame.
        """
        part, local = _locate(self._parts, self._starts, index)
        frame: Frame = part.frame(local)
        return frame

    def points(self, index: int) -> NDArray[np.float32]:
        """The points of frame `index` alone: much quicker than the whole frame; raises as `frame` does."""
        part, local = _locate(self._parts, self._starts, index)
        points: NDArray[np.float32] = part.points(local)
        return points


class _FramesPart:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens: list[str] = _text(path, "token")
        self.scenes: list[str] = _text(path, "scene")
        self.point_offset = _offsets(path, "point_offset")
        self.pair_offset = _offsets(path, "pair_offset")
        self._small = {name: ChunkedArray(path / name).read() for name in _PER_FRAME}
        self._ragged = {name: ChunkedArray(path / name) for name in _RAGGED}
        self._sparse_depth = ChunkedArray(path / "sparse_depth")
        _check_lengths(
            path,
            len(self.tokens),
            [len(self.scenes), len(self.point_offset) - 1, len(self.pair_offset) - 1, len(self._sparse_depth)]
            + [len(values) for values in self._small.values()],
        )
        _check_lengths(path, self.point_offset[-1], [len(self._ragged["point"])])
        _check_lengths(path, self.pair_offset[-1], [len(self._ragged[name]) for name in _RAGGED[1:]])

    def __len__(self) -> int:
        return len(self.tokens)

    def frame(self, local: int) -> Frame:
        start, stop = self.pair_offset[local : local + 2]
        pairs = Pairs(*(self._ragged[name].rows(start, stop) for name in _RAGGED[1:]))
        return Frame(
            token=self.tokens[local],
            scene=self.scenes[local],
            point=self.points(local),
            pairs=pairs,
            sparse_depth=self._sparse_depth.rows(local, local + 1)[0],
            **{name: values[local] for name, values in self._small.items()},
        )

    def points(self, local: int) -> NDArray[np.float32]:
        points: NDArray[np.float32] = self._ragged["point"].rows(*self.point_offset[local : local + 2])
        return points


class Arrays:
    """Equally shaped arrays, one for each frame of an artifact's folder: images, superpixels or features."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open all parts.

        Raises:
            CorruptError: no part, a gap in their numbers, or damaged metadata.
            InputError: written by a newer version.
        """
        paths = _parts(folder)
        self._parts = [ChunkedArray(path / name) for path in paths]
        self._starts = _starts(self._parts)
        self.attributes = read_attributes(paths[0])
        self.item_shape = self._parts[0].shape[1:]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> NDArray[Any]:
        """The array of frame `index`.

        Raises:
            CorruptError: naming the file that is missing or damaged.
            IndexError: there is no such frame.
        """
        part, local = _locate(self._parts, self._starts, index)
        values: NDArray[Any] = part.rows(local, local + 1)[0]
        return values


class Labels:
    """Raw class ids of each frame of an artifact's folder."""

    def __init__(self, folder: Path) -> None:
        """Open all parts.

        Raises:
            CorruptError: no part, a gap in their numbers, or damaged metadata.
            InputError: written by a newer version.
        """
        self._parts = [_LabelsPart(path) for path in _parts(folder)]
        self._starts = _starts(self._parts)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        """Raw ids (P,) of frame `index`.

        Raises:
            CorruptError: naming the file that is missing or damaged.
            IndexError: there is no such frame.
        """
        part, local = _locate(self._parts, self._starts, index)
        labels: NDArray[np.uint16] = part.rows(local)
        return labels

    @property
    def num_points(self) -> NDArray[np.int64]:
        """Labelled points of each frame: (F,), 0 where a frame has no labels."""
        return np.concatenate([np.diff(part.offset) for part in self._parts])


class _LabelsPart:
    def __init__(self, path: Path) -> None:
        self.offset = _offsets(path, "point_offset")
        self._label = ChunkedArray(path / "label")
        _check_lengths(path, self.offset[-1], [len(self._label)])

    def __len__(self) -> int:
        return len(self.offset) - 1

    def rows(self, local: int) -> NDArray[np.uint16]:
        return self._label.rows(*self.offset[local : local + 2])


def _parts(folder: Path) -> list[Path]:
    """All parts of a folder, in order, when none is missing between them and this version can read them."""
    found = sorted(folder.glob("part-*.zarr"))
    expected = [part_path(folder, number) for number in range(max(1, len(found)))]
    for path, wanted in zip(found or [folder], expected, strict=True):
        if path != wanted:
            raise CorruptError("a part is missing", where=wanted)
        schema = read_attributes(path).get("schema")
        if schema != SCHEMA:
            raise InputError("unknown schema", where=path, why=f"version {schema}, this program reads {SCHEMA}")
    return found


def _starts(parts: Sequence[Any]) -> list[int]:
    """Where each part begins, and the total."""
    return [0, *accumulate(len(part) for part in parts)]


def _locate(parts: Sequence[Any], starts: list[int], index: int) -> tuple[Any, int]:
    """The part that holds item `index`, and its place there."""
    if not 0 <= index < starts[-1]:
        raise IndexError(f"frame {index} of {starts[-1]}")
    number = bisect_right(starts, index) - 1
    return parts[number], index - starts[number]


def _text(path: Path, name: str) -> list[str]:
    return [str(value) for value in ChunkedArray(path / name).read()]


def _offsets(path: Path, name: str) -> list[int]:
    offsets: list[int] = ChunkedArray(path / name).read().tolist()
    if not offsets or offsets[0] != 0 or any(a > b for a, b in pairwise(offsets)):
        raise CorruptError("bad offsets", where=path / name)
    return offsets


def _check_lengths(path: Path, expected: int, lengths: Sequence[int]) -> None:
    if any(length != expected for length in lengths):
        raise CorruptError("arrays of a part differ in length", where=path)
