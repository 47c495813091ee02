"""Kernel locks between processes: who waits, who is named, and that death releases."""

import os
import signal
import time
from pathlib import Path

import pytest

from cache import lock
from cache.errors import Busy
from cache.lock import Owner

HOLD = """
import sys, pathlib, cache.lock
with cache.lock.exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_second_process_is_told_who_holds_it(tmp_path: Path, python) -> None:
    path = tmp_path / "x.lock"
    holder = python(HOLD, path)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Busy) as caught:
        lock.exclusive(path, wait=False)
    assert (caught.value.host, caught.value.pid) == (os.uname().nodename, str(holder.pid))
    assert caught.value.since in str(caught.value)
    assert lock.owner_of(path) == lock.read_owner(path) != Owner()


def test_waiting_ends_when_the_holder_is_done(tmp_path: Path, python) -> None:
    path = tmp_path / "x.lock"
    holder = python(HOLD, path)
    holder.stdout.readline()
    heard: list[Owner] = []

    def on_wait(owner: Owner) -> None:
        heard.append(owner)
        holder.stdin.write("\n")
        holder.stdin.flush()

    with lock.exclusive(path, on_wait=on_wait):
        pass
    assert [owner.pid for owner in heard] == [str(holder.pid)]


def test_killed_holder_releases(tmp_path: Path, python) -> None:
    path = tmp_path / "x.lock"
    holder = python(HOLD, path)
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert lock.owner_of(path) is None
    with lock.exclusive(path, wait=False):
        pass


def test_orphaned_fork_does_not_keep_a_dead_holders_lock(tmp_path: Path, python) -> None:
    """A data-loading worker outlives its killed parent."""
    path = tmp_path / "x.lock"
    code = HOLD.replace('    print("held"', '    import os, time\n    os.fork() or time.sleep(60)\n    print("held"')
    code = code.replace("os.fork() or", "child = os.fork()\n    child or").replace('print("held"', "print(child")
    holder = python(code, path)
    child = int(holder.stdout.readline())
    try:
        holder.send_signal(signal.SIGKILL)
        os.waitpid(holder.pid, 0)
        os.kill(child, 0)  # still alive
        with lock.exclusive(path, wait=False):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_forked_child_does_not_release_its_parents_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with lock.exclusive(path) as held:
        held.delete_file_on_release()
        child = os.fork()
        if child == 0:
            held.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert path.exists()
        with pytest.raises(Busy):
            lock.exclusive(path, wait=False)
    assert not path.exists()


def test_lock_on_a_deleted_file_is_not_taken_for_the_lock(tmp_path: Path, python) -> None:
    """The waiter gets the file its predecessor deleted; it must come back for the one that counts."""
    path = tmp_path / "x.lock"
    with lock.exclusive(path) as held:
        waiter = python(HOLD, path)
        while lock.read_owner(path).pid == str(os.getpid()) and not _blocked(waiter.pid):
            time.sleep(0.01)
        held.delete_file_on_release()
    assert waiter.stdout.readline() == "held\n"
    owner = lock.owner_of(path)
    assert owner is not None
    assert owner.pid == str(waiter.pid)


def _blocked(pid: int) -> bool:
    """Whether a process waits inside flock."""
    return any(line.split()[1] == "->" and line.split()[5] == str(pid) for line in open("/proc/locks"))


def test_readers_share_and_exclude_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("{}")
    with lock.shared(path), lock.shared(path, wait=False), pytest.raises(Busy):
        lock.exclusive_on_existing(path)
    with lock.exclusive_on_existing(path), pytest.raises(Busy):
        lock.shared(path, wait=False)
    assert path.read_text() == "{}"


def test_shared_lock_needs_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock.shared(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "[1]", '{"host": "a"}', "[" * 100_000, "\udcff"])
def test_unreadable_owner_is_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.lock").write_text(text, errors="surrogateescape")
    assert lock.read_owner(tmp_path / "x.lock") == Owner()


def test_a_lock_file_goes_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or who gets the lock next would hold a file that we delete, and another a new one."""
    path, close = tmp_path / "x.lock", lock.Held.close

    def gone(held: lock.Held) -> None:
        assert not path.exists()
        close(held)

    monkeypatch.setattr(lock.Held, "close", gone)
    with lock.exclusive(path) as held:
        held.delete_file_on_release()
