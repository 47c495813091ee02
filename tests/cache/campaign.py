"""Fails the n-th operation on the disk for n = 1, 2, ... until a run passes untouched (SQLite's method).

Run as `python campaign.py OPERATION ACTION FOLDER`: each run forks a child with the failpoint armed, then checks that
the store holds the old state or the new one, never anything between, and that the operation, repeated, ends as a clean
run does. Writes the number of places that failed to stdout. A process of its own keeps the forks away from pytest's
threads.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import FILES, publish_in

import cache.failpoint
from cache import content, gc, manifest
from cache.artifact import Artifact
from cache.errors import NoSpace, StoreIO
from cache.pack import pack, unpack
from cache.store import Store

Operation = Callable[[Store], None]
_FAILED, _UNTOUCHED = 3, 0


def publish(store: Store) -> None:
    """Publish artifact 1."""
    publish_in(store, 1)


def receive(store: Store) -> None:
    """Unpack artifact 1."""
    unpack(store, store.root.parent / "packed.tar")


def go_on(store: Store) -> None:
    """Make artifact 1 as a stage does that takes the files in its work folder for finished."""
    publish_in(store, 1, goes_on=True)


def replace(store: Store) -> None:
    """Make artifact 1 anew if it is damaged, as it is before."""
    damaged = next((item for item in store.artifacts() if item.verify(full=True)), None)
    if damaged is not None:
        publish_in(store, 1, replaces=damaged)


def damage(item: Artifact) -> None:
    """Alter a file that is listed."""
    (item.path / "a.bin").write_bytes(b"omega")


def collect(store: Store) -> None:
    """Delete artifact 1, which is there before."""
    kept = gc.collect(store, gc.plan(store, older_than_s=0)).kept
    if kept:
        raise StoreIO(kept[0][1])


# What fails, and what is run afterwards.
OPERATIONS: dict[str, tuple[Operation, Operation]] = {
    "publish": (publish, publish),
    "unpack": (receive, receive),
    "unpack, then the stage": (receive, go_on),
    "collect": (collect, collect),
    "replace": (replace, replace),
}


def in_child(store: Store, operation: Operation, spec: str) -> int:
    """Run `operation` in a child with a failpoint armed; returns its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        cache.failpoint._armed = cache.failpoint.parse(spec)
        try:
            operation(store)
        except (NoSpace, StoreIO):
            os._exit(_FAILED)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(_UNTOUCHED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def require(truth: bool, what: str) -> None:
    """Fail with a message."""
    if not truth:
        sys.exit(what)


def check(store: Store, old: Artifact, turn: int) -> None:
    """Everything that exists is complete, and nothing that counts was touched."""
    where = f"after failure {turn}"
    require(store.damaged() == [], f"{where}: damaged {store.damaged()}")
    for item in store.artifacts():
        require(item.verify(full=True) == [], f"{where}: {item.verify(full=True)}")
    require(store.find(old.stage, old.key) == old, f"{where}: the other artifact changed")
    for folder in store.root.glob("*/??/*"):
        complete = {*FILES, content.NAME, manifest.NAME}
        present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        require(present == complete, f"{where}: {folder} holds {present}")


def campaign(name: str, action: str, folder: Path) -> int:
    """Returns how many places failed before a run passed untouched."""
    operation, repeat = OPERATIONS[name]
    expected = {"kill": -signal.SIGKILL, "enospc": _FAILED, "eio": _FAILED}[action]
    source = Store(folder / "source")
    wanted = publish_in(source, 1)
    pack([wanted], folder / "packed.tar")
    for turn in range(1, 1000):
        shutil.rmtree(folder / "store", ignore_errors=True)
        store = Store(folder / "store")
        old = publish_in(store, 0)
        store.pin(old.key)
        if name in ("collect", "replace"):
            there = publish_in(store, 1)
        if name == "replace":
            damage(there)
        status = in_child(store, operation, f"*:{turn}:{action}")
        if name == "replace":
            present = store.find(wanted.stage, wanted.key)
            require(present is not None and present.sequence == there.sequence, f"{turn}: neither old nor new is there")
        else:
            check(store, old, turn)
        repeat(store)
        check(store, old, turn)
        found = store.find(wanted.stage, wanted.key)
        if name == "collect":
            require(found is None, f"{turn}: not collected")
        else:
            require(found is not None and found.digest == wanted.digest, f"{turn}: the repeated run differs")
        gc.collect(store, gc.plan(store))
        left = [path for place in (".work", ".trash") for path in store.root.glob(f"{place}/**/*") if path.is_file()]
        require(left == [], f"{turn}: left over {left}")
        if status == _UNTOUCHED:
            return turn - 1
        require(status == expected, f"{turn}: exit status {status}")
    sys.exit("no run passed untouched")


if __name__ == "__main__":
    sys.stdout.write(str(campaign(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
