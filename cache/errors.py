"""What can go wrong with the store: one class a case, each message one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_BROKEN = frozenset({errno.EIO, errno.EFBIG, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE})


class StoreError(Exception):
    """Base of the family: what happened, to which path, why."""

    def __init__(self, what: str, path: Path | None = None, why: str = "") -> None:
        self.what, self.path, self.why = what, path, why
        super().__init__(what + (f": {path}" if path is not None else "") + (f" ({why})" if why else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes whole, whatever their constructors take."""
        return _revive, (type(self), self.args, self.__dict__)


def _revive(kind: type[StoreError], args: tuple[object, ...], state: dict[str, object]) -> StoreError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class NotFound(StoreError):
    """No artifact has this key."""


class Ambiguous(StoreError):
    """Several artifacts share this prefix of their keys."""


class Corrupt(StoreError):
    """The bytes on the disk are not the ones that were published."""


class Newer(StoreError):
    """The artifact was written by a newer version of the toolkit."""


class NotPublishable(StoreError):
    """The content of a work folder can't become an artifact."""


class BadArchive(StoreError):
    """A packed file holds something that `unpack` refuses."""


class StoreIO(StoreError):
    """The operating system failed to read or write."""


class ReadOnly(StoreIO):
    """The store may not be written: a read-only disk, or missing permission."""


class NoSpace(StoreIO):
    """The disk is full: `needs` and `free` are bytes, `needs` is None where nobody knows."""

    def __init__(self, path: Path, needs: int | None, free: int) -> None:
        self.needs, self.free = needs, free
        wanted = "" if needs is None else f"needs ~{readable_bytes(needs)}, "
        super().__init__("no space left on the disk", path, f"{wanted}free {readable_bytes(free)}")


class Busy(StoreError):
    """Another process holds the lock: `host`, `pid`, `since` (UTC, ISO 8601) as it wrote them, or "unknown"."""

    def __init__(self, what: str, host: str, pid: str, since: str) -> None:
        self.host, self.pid, self.since = host, pid, since
        super().__init__(what, why=f"held by process {pid} on {host} since {since}")


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write on the disk of `path`, or of its nearest existing parent."""
    for folder in (path, *path.parents):
        if folder.exists():
            disk = os.statvfs(folder)
            return disk.f_bavail * disk.f_frsize
    return 0


def of_the_machine(error: OSError) -> bool:
    """Whether `error` is about the disk, its permissions or its limits, and not about a file that should be there."""
    return error.errno in _FULL | _REFUSED | _BROKEN


def translate(error: OSError, path: Path, needs: int | None = None) -> StoreIO:
    """The store's exception for an operating system's error at `path`."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    if error.errno in _FULL:
        return NoSpace(where, needs, free_bytes(where))
    kind = ReadOnly if error.errno in _REFUSED else StoreIO
    return kind("no permission" if kind is ReadOnly else "input/output error", where, error.strerror or "")


@contextmanager
def translated(path: Path, needs: int | None = None) -> Iterator[None]:
    """Raise the store's own exceptions for what the operating system reports inside the block."""
    try:
        yield
    except OSError as error:
        raise translate(error, path, needs) from error


def readable_bytes(count: float) -> str:
    """A size with a binary unit: 1.5 MiB."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"
