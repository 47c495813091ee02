"""The content of an artifact: its files, and `files.json`, which lists each one's size and sha256.

The sha256 of `files.json` is the content digest: two artifacts with the same digest hold the same bytes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cache import disk, manifest
from cache.errors import Corrupt, NotPublishable
from cache.key import KEY_PATTERN, canonical_json, digest_of_file

NAME = "files.json"
RESERVED = frozenset({NAME, manifest.NAME})
_WORKERS = 4  # flushing waits for the disk, hashing releases the interpreter


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact."""

    size: int
    sha256: str


Entries = dict[str, FileEntry]


def walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Each thing below `folder` that is no folder, with its path inside; the store's own two files are left out."""
    pending = [""]
    while pending:
        inside = pending.pop()
        with os.scandir(folder / inside) as found:
            for entry in found:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif name not in RESERVED:
                    yield name, entry


def seal(folder: Path) -> Entries:
    """Flush every file and folder below `folder` to the disk and return the files' sizes and digests.

    Raises:
        NotPublishable: a link or a device, a name that is not UTF-8, or one of the store's own names.
    """
    from concurrent.futures import ThreadPoolExecutor

    for name in RESERVED:
        if os.path.lexists(folder / name):
            raise NotPublishable("this name is the store's own", folder / name)
    names = sorted(_regular_names(folder))
    with ThreadPoolExecutor(_WORKERS) as pool:
        entries = dict(zip(names, pool.map(lambda name: _seal_file(folder / name), names), strict=True))
    for inside, _, _ in os.walk(folder):
        disk.flush(Path(inside), "store.folder")
    return entries


def _regular_names(folder: Path) -> Iterator[str]:
    for name, entry in walk(folder):
        if not entry.is_file(follow_symlinks=False):
            raise NotPublishable("neither a file nor a folder", folder / name)
        if not _is_unicode(name):
            raise NotPublishable("the file's name is not UTF-8", folder / ascii(name))
        yield name


def _is_unicode(name: str) -> bool:
    try:
        name.encode("utf8")
    except UnicodeEncodeError:
        return False
    return True


def _seal_file(path: Path) -> FileEntry:
    disk.flush(path, "store.file")
    return FileEntry(path.stat().st_size, digest_of_file(path))


def to_bytes(entries: Entries) -> bytes:
    """The content of `files.json`."""
    return (canonical_json({"files": {name: asdict(entry) for name, entry in entries.items()}}) + "\n").encode("utf8")


def digest_of(data: bytes) -> str:
    """The content digest: sha256 of the bytes of `files.json`."""
    return hashlib.sha256(data).hexdigest()


def read_entries(path: Path, digest: str) -> Entries:
    """The `files.json` at `path`, once its bytes have proved to be those of `digest`.

    Raises:
        Corrupt: missing, altered, or with a name that leaves the folder.
    """
    try:
        if digest_of_file(path) != digest:
            raise Corrupt("altered", path)
        return parse(path.read_bytes(), path)
    except FileNotFoundError:
        raise Corrupt("missing", path) from None


def parse(data: bytes, path: Path) -> Entries:
    """The entries in `data`; raises Corrupt naming `path`."""
    try:
        listed = json.loads(data)["files"]
        entries = {name: _entry(name, value) for name, value in listed.items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt("bad list of files", path, f"{type(error).__name__}: {error}") from None
    return entries


def _entry(name: str, value: Any) -> FileEntry:
    if not is_inside(name) or name in RESERVED:
        raise ValueError(f"name {name!r}")
    entry = FileEntry(**value)
    if type(entry.size) is not int or entry.size < 0 or not KEY_PATTERN.fullmatch(entry.sha256):
        raise ValueError(f"entry of {name!r}")
    return entry


def is_inside(name: str) -> bool:
    """Whether a path with slashes stays below the folder it is relative to and is spelled in the one plain way."""
    parts = name.split("/")
    return "\0" not in name and all(part not in ("", ".", "..") for part in parts) and str(PurePosixPath(name)) == name


def compare(folder: Path, entries: Entries, *, full: bool | Callable[[str], bool]) -> list[str]:
    """What is wrong with the files in `folder`, one line each; `full` reads every byte, of all or of some."""
    reads = full if callable(full) else lambda _: bool(full)
    found = {name: entry.stat(follow_symlinks=False).st_size for name, entry in walk(folder)}
    problems = [f"{folder / name}: not in {NAME}" for name in sorted(found.keys() - entries.keys())]
    for name, entry in sorted(entries.items()):
        path = folder / name
        if name not in found:
            problems.append(f"{path}: missing")
        elif found[name] != entry.size:
            problems.append(f"{path}: {found[name]} bytes instead of {entry.size}")
        elif path.is_symlink() or (reads(name) and digest_of_file(path) != entry.sha256):
            problems.append(f"{path}: altered")
    return problems
