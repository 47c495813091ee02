"""Durable file operations: each reaches the disk before it returns, and each has its failpoints."""

import ctypes
import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from cache.failpoint import failpoint

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h, linux/fs.h
_CANNOT_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})  # some network file systems


def write(path: Path, data: bytes, label: str) -> None:
    """Write a file and flush it to the disk."""
    failpoint(f"{label}.write")
    half = len(data) // 2
    with path.open("wb") as file:
        file.write(data[:half])
        file.flush()
        failpoint(f"{label}.half")
        file.write(data[half:])
        file.flush()
        failpoint(f"{label}.fsync")
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes, label: str) -> None:
    """Write a file that has its name only once it is complete and on the disk; nothing is left of a failed attempt."""
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        write(unfinished, data, label)
        rename(unfinished, path, label)
    except OSError:
        remove(unfinished)
        raise


def flush(path: Path, label: str) -> None:
    """Flush a file or a folder's list of names to the disk."""
    failpoint(f"{label}.fsync")
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(folder: Path, label: str) -> None:
    """Flush every file and folder below `folder`, and itself, to the disk."""
    for inside, _, names in os.walk(folder):
        for name in names:
            flush(Path(inside, name), f"{label}.file")
        flush(Path(inside), f"{label}.folder")


def rename(source: Path, target: Path, label: str) -> None:
    """Move `source` to `target` in one step, and flush the folder that now lists it."""
    failpoint(f"{label}.rename")
    source.rename(target)
    flush(target.parent, f"{label}.parent")


def exchange(first: Path, second: Path, label: str) -> bool:
    """Swap two names in one step, and flush the folders that list them; False where the file system can't."""
    failpoint(f"{label}.exchange")
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # Python has no call for it
    names = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
    if swap is None or swap(*names, _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if swap is None or code in _CANNOT_EXCHANGE:
            return False
        raise OSError(code, os.strerror(code), str(second))
    for folder in (first.parent, second.parent):
        flush(folder, f"{label}.parent")
    return True


def make_folders(folder: Path, label: str) -> None:
    """Create a folder with its parents; each new name is flushed, so that what is put inside can't be lost with it."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(missing):
        failpoint(f"{label}.mkdir")
        path.mkdir(exist_ok=True)
        flush(path.parent, f"{label}.mkdir")


def remove(path: Path) -> None:
    """Delete a file or a tree; a name that is already gone, or that another process is deleting, is no error."""
    while path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what disappears meanwhile counts as nothing."""
    files = [path]
    if path.is_dir():
        files = [Path(inside, name) for inside, _, names in os.walk(path) for name in names]  # passes over what is gone
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total


def fresh_name(stem: str) -> str:
    """A name that no other process or moment gives out."""
    return f"{stem}-{os.getpid()}-{time.monotonic_ns()}"
