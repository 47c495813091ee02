"""What identifies a data set on disk, and whether it looks like one at all; both without the devkit.

Frames and labels have fingerprints of their own: nothing about labels can reach the key of a pre-training stage.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from hvd import log
from hvd.datasets.splits import SPLITS_FILE
from hvd.errors import InputError

Kind = Literal["nuscenes", "semkitti", "kitti"]
Part = Literal["frames", "labels"]

_TABLES: dict[Part, tuple[str, ...]] = {
    "frames": ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose"),
    "labels": ("category", "lidarseg"),
}

KITTI_TEST = "testing"  # the version of kitti whose labels the benchmark keeps; numbered from 0 as training is
_KITTI_FOLDERS = ("velodyne", "calib", "image_2")  # label_2 only where labels are needed


def kitti_folder(root: Path, version: str | None) -> Path:
    """Where the frames of a version of KITTI are: `testing`, or else `training`."""
    return root / (version or "training")


def point_files(folder: Path) -> list[Path]:
    """The sweeps of a folder in order of their names; hidden files, such as an interrupted copy leaves, are none."""
    return sorted(folder.glob("[!.]*.bin"))


def check_layout(root: Path, kind: Kind, version: str | None) -> None:
    """Look for the files that a data set must have, before anything is read.

    Raises:
        InputError: naming the first that is missing and what was looked for.
    """
    try:
        is_folder = root.is_dir()
    except OSError as error:  # a name that is too long, say
        raise InputError(f"no {kind} data set", where=root, why=error.strerror or str(error)) from None
    if not is_folder:
        raise InputError(f"no {kind} data set", where=root, why="no such folder")
    if kind == "semkitti":
        if not any(point_files(folder) for folder in root.glob("sequences/*/velodyne")):
            raise InputError("no semkitti data set", where=root, why="looked for sequences/NN/velodyne/*.bin")
        return
    if kind == "kitti":
        frames = kitti_folder(root, version)
        if not point_files(frames / "velodyne"):
            what = "no test part of kitti" if version == KITTI_TEST else "no kitti data set"
            raise InputError(what, where=root, why=f"looked for {frames.name}/velodyne/*.bin")
        for folder in _KITTI_FOLDERS:
            if not (frames / folder).is_dir():
                why = f"looked for the folder {frames.name}/{folder}"
                raise InputError("incomplete kitti data set", where=root, why=why)
        return
    if not version or not (root / version).is_dir():
        found = ", ".join(sorted(path.parent.name for path in root.glob("v*/sample.json"))) or "none"
        raise InputError(
            "no nuscenes data set",
            where=root,
            why=f"looked for the folder {version}; versions found: {found}",
            hint="name the folder that holds samples and sweeps" if found == "none" else "choose one with --version",
        )
    for table in _TABLES["frames"]:
        if not (root / version / f"{table}.json").is_file():
            raise InputError("missing table", where=root / version / f"{table}.json")
    if not (root / "samples").is_dir():
        raise InputError("no nuscenes data set", where=root, why="looked for the folder samples")


def fingerprint(root: Path, kind: Kind, version: str | None, part: Part = "frames", *, contents: bool = False) -> str:
    """The SHA-256 (hex) that stands for the data set in a key.

    Made of the hashes of the tables and texts that are read, and of the sorted relative paths and sizes of the sensor
    files, or with `contents` of their hashes too. Labels, and the tables about them, are a part of their own.

    Raises:
        InputError: the layout is wrong or a file can't be read.
    """
    check_layout(root, kind, version)
    tables = _tables(root, kind, version, part)
    files: Iterable[Path] = _sensor_files(root, kind, version, part)
    if contents:
        files = log.track(list(files), f"hash {part} of {kind}")  # hundreds of gigabytes, perhaps
    summary = {
        "kind": kind,
        "version": version,
        "part": part,
        "tables": {path.relative_to(root).as_posix(): _sha256(path) for path in tables},
        "files": [_describe(root, path, contents) for path in files],
    }
    return hashlib.sha256(json.dumps(summary, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def snapshot(root: Path, kind: Kind, version: str | None, part: Part) -> dict[Path, tuple[int, int]]:
    """Size and modification time (ns) of each file that `fingerprint` looks at: compared later, they name what changed.

    Raises:
        InputError: a file is gone or can't be read.
    """
    return {
        path: state_of(path)
        for path in (*_tables(root, kind, version, part), *_sensor_files(root, kind, version, part))
    }


def state_of(path: Path) -> tuple[int, int]:
    """Size and modification time (ns) of a file; raises InputError if it can't be read."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError("cannot read", where=path, why=error.strerror or str(error)) from None
    return status.st_size, status.st_mtime_ns


def _tables(root: Path, kind: Kind, version: str | None, part: Part) -> list[Path]:
    tables = [root / SPLITS_FILE] if part == "frames" else []
    if kind == "nuscenes":
        tables += [root / str(version) / f"{name}.json" for name in _TABLES[part]]
    if kind == "kitti" and part == "frames":
        tables += _walk(root / "ImageSets")
    return [path for path in tables if path.is_file()]


def _sensor_files(root: Path, kind: Kind, version: str | None, part: Part) -> Iterable[Path]:
    if kind == "nuscenes":
        return _walk(root / "samples" if part == "frames" else root / "lidarseg" / str(version))
    if kind == "kitti":
        folders = _KITTI_FOLDERS if part == "frames" else ("label_2",)
        return (path for folder in folders for path in _walk(kitti_folder(root, version) / folder))
    folder = "velodyne" if part == "frames" else "labels"
    sequences = sorted((root / "sequences").iterdir())
    return (path for sequence in sequences for path in _walk(sequence / folder))


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, sorted, but those that begin with a dot; none if there is no such folder."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _describe(root: Path, path: Path, contents: bool) -> list[str | int]:
    size, _ = state_of(path)
    contents = contents or path.suffix == ".txt"  # KITTI's calibrations and labels: numbers of a fixed width
    return [path.relative_to(root).as_posix(), size, *([_sha256(path)] if contents else [])]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError("cannot read", where=path, why=error.strerror or str(error)) from None


def has_labels(root: Path, kind: Kind, version: str | None) -> bool:
    """Whether the data set brings any label file."""
    return next(iter(_sensor_files(root, kind, version, "labels")), None) is not None
