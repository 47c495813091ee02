"""Kernel file locks (flock): shared or exclusive, released by the kernel when the holder dies, however it dies.

An exclusive lock's file names its owner. A lock file may be deleted while it is held, so whoever gets a lock checks
that the path still names the file it locked. A forked child (a data-loading worker) drops the locks it inherits: an
orphan must not keep a dead run's lock.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cache.errors import Busy

_LOOKS = 3  # a claim that does not wait looks this often: `owner` holds a shared lock for an instant
_LOOK_INTERVAL_S = 0.02


@dataclass(frozen=True)
class Owner:
    """Who wrote the lock file last."""

    host: str = "unknown"
    pid: str = "unknown"
    since: str = "unknown"  # UTC, ISO 8601


class Held:
    """A lock that this process holds until `release`, or the end of a `with` block."""

    def __init__(self, handle: int, path: Path) -> None:
        self.path = path
        self._handle: int | None = handle
        self._unlink = False
        _held.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def delete_file_on_release(self) -> None:
        """The lock file is needed no longer."""
        self._unlink = True

    def release(self) -> None:
        """Give the lock back; nothing happens in a forked child, which never had it."""
        if self._handle is None:
            return
        if self._unlink:
            self.path.unlink(missing_ok=True)
        self.close()
        _held.discard(self)

    def close(self) -> None:
        """Close this process's handle of the lock file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_held: set[Held] = set()


def _drop_inherited() -> None:
    for held in _held:
        held.close()
    _held.clear()


os.register_at_fork(after_in_child=_drop_inherited)


def nobody_listens(owner: Owner) -> None:
    """The default of `on_wait`: say nothing."""


def exclusive(path: Path, *, wait: bool = True, on_wait: Callable[[Owner], None] = nobody_listens) -> Held:
    """Take the only lock on `path`, creating the file and writing the owner into it.

    `on_wait` is called once with the owner, before waiting.

    Raises:
        Busy: another process holds it and `wait` is false.
        OSError: the file can't be made.
    """
    return _acquire(path, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX, wait, on_wait)


def shared(path: Path, *, wait: bool = True) -> Held:
    """Take a lock on an existing file together with other readers; read permission is enough.

    Raises:
        Busy: an exclusive lock is held and `wait` is false.
        OSError: FileNotFoundError if there is no such file, or it was deleted while waiting.
    """
    return _acquire(path, os.O_RDONLY, fcntl.LOCK_SH, wait, nobody_listens)


def exclusive_on_existing(path: Path) -> Held:
    """Take the only lock on an existing file, neither writing into it nor waiting; raises as `shared` does.

    It is opened for writing all the same: NFS gives nobody else an exclusive lock (flock(2)).
    """
    return _acquire(path, os.O_RDWR, fcntl.LOCK_EX, False, nobody_listens)


def owner_of(path: Path) -> Owner | None:
    """Who holds the exclusive lock on `path`; None if nobody does."""
    try:
        with shared(path, wait=False):
            return None
    except FileNotFoundError:
        return None
    except Busy:
        return read_owner(path)


def read_owner(path: Path) -> Owner:
    """The owner that the lock file names, alive or not; "unknown" where it is unreadable."""
    try:
        fields = json.loads(path.read_bytes()[:4096])
        return Owner(host=str(fields["host"]), pid=str(fields["pid"]), since=str(fields["since"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Owner()


def _acquire(path: Path, flags: int, kind: int, wait: bool, on_wait: Callable[[Owner], None]) -> Held:
    waited = False
    while True:
        handle = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            waited |= _lock(handle, kind, path, wait, nobody_listens if waited else on_wait)
            if _is_same_file(handle, path):
                if flags & os.O_CREAT:
                    _write_owner(handle)
                return Held(handle, path)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, kind: int, path: Path, wait: bool, on_wait: Callable[[Owner], None]) -> bool:
    """Lock `handle`; True if that took waiting for another owner."""
    for look in range(_LOOKS):
        if _try_lock(handle, kind):
            return look > 0
        if look < _LOOKS - 1:
            time.sleep(_LOOK_INTERVAL_S)
    owner = read_owner(path)
    if not wait:
        raise Busy(f"{path.name} is in use", owner.host, owner.pid, owner.since)
    on_wait(owner)
    fcntl.flock(handle, kind)
    return True


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _write_owner(handle: int) -> None:
    owner = Owner(os.uname().nodename, str(os.getpid()), datetime.now(UTC).isoformat(timespec="seconds"))
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(asdict(owner)).encode(), 0)
