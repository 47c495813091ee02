"""Shared by the store's tests: a store, and a stage that publishes something small."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.artifact import Artifact
from cache.key import key_of
from cache.store import Store

FILES = {"a.bin": b"alpha", "part/b.bin": bytes(range(256)) * 9, "part/ü ß.json": b"{}", "empty": b""}
Publish = Callable[..., Artifact]


def publish_in(
    store: Store,
    number: int = 0,
    parents: tuple[Artifact, ...] = (),
    stage: str = "prep",
    goes_on: bool = False,
    replaces: Artifact | None = None,
) -> Artifact:
    """Publish FILES under a key that `number` determines; what `goes_on` keeps those that are there."""
    key_inputs = {"stage": stage, "number": number, "config": {"step": 1.0}}
    with store.claim(stage, key_of(key_inputs), replaces=replaces) as work:
        if work.artifact is not None:
            return work.artifact
        for name, data in FILES.items():
            (work.folder / name).parent.mkdir(exist_ok=True)
            if not goes_on or not (work.folder / name).exists():
                (work.folder / name).write_bytes(data)
        (work.scratch / "checkpoint").write_bytes(b"state")
        listed = [{"name": p.stage, "stage": p.stage, "key": p.key, "digest": p.digest} for p in parents]
        return work.publish(key_inputs, listed, {"metrics": {"iou": 0.5}, "command": "hvd prep \udcff"})


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is one: these tests flush thousands of files, and a disk would only slow them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "störe with space")


@pytest.fixture
def publish(store: Store) -> Publish:
    return lambda *args, **kwargs: publish_in(store, *args, **kwargs)


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -c code args...` with pipes; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, args)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, **environment}, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def read_only_store() -> Iterator[Store]:
    """A store with one artifact that this process may read but not write, root or not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        store = Store(Path(folder) / "store")
        publish_in(store)
        paths = [store.root, *store.root.rglob("*")]
        for path in paths:
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        user = os.geteuid()
        if user == 0:  # permissions do not stop root
            os.seteuid(65534)
        yield store
        os.seteuid(user)
        for path in paths:
            path.chmod(0o755)
