"""Worker processes that die or hang are noticed in time, and what they were doing is named."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hvd import pool
from hvd.errors import ResourceError
from stages import parts


def die(frames: range, path: Path) -> None:
    pool.doing(f"sample {frames.start}")
    os.kill(os.getpid(), signal.SIGKILL)


def hang(frames: range, path: Path) -> None:
    pool.doing(f"sample {frames.start}")
    if frames.start:
        os.kill(os.getpid(), signal.SIGSTOP)  # hears SIGTERM no more


def make(folder: Path, job) -> None:
    parts.make_parts(folder, lambda frames: Part(job, frames), 2 * parts.FRAMES_PER_PART, 2, "frames of x")


class Part:
    """A picklable job."""

    def __init__(self, job, frames: range) -> None:
        self.job, self.frames = job, frames

    def __call__(self, path: Path) -> None:
        self.job(self.frames, path)


def test_a_worker_that_dies_names_its_sample(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"a worker of frames of x died: .*sample (0|40).* memory") as caught:
        make(tmp_path, die)
    assert caught.value.exit_code == 6


def halt(number: int) -> int:
    pool.doing(f"sample {number}")
    time.sleep(0.2 * (2 - number))
    if number == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


def test_results_come_in_the_order_of_what_they_are_of() -> None:
    assert pool.run_all(halt, [0, 1], 2, "x") == pool.run_all(halt, [0, 1], 1, "x") == [0, 1]


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_TIMEOUT_S", 1.0)
    monkeypatch.setattr(pool, "_LOOK_S", 0.1)


@pytest.mark.usefixtures("short_timeout")
def test_a_worker_that_hangs_while_data_is_checked_or_the_world_is_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hvd.world import build  # here: the workers, which import this file, need not load them
    from hvd.world.config import smoke_world
    from stages import skipping

    monkeypatch.setattr(skipping, "_bad_in", halt)
    monkeypatch.setattr(skipping, "part_ranges", lambda count: [0, 2])
    monkeypatch.setattr(skipping, "part_of", lambda data, number: number)
    with pytest.raises(ResourceError, match="a worker of checking x hangs: sample 2"):
        skipping.bad_samples(SimpleNamespace(samples=(), name="x"), 2)
    monkeypatch.setattr(build, "partial", lambda *_: halt)
    monkeypatch.setattr(build, "_jobs", lambda *_: [0, 2])
    with pytest.raises(ResourceError, match=r"a worker of world \(nuscenes\) hangs: sample 2"):
        build.write_world(smoke_world("nuscenes", 0), tmp_path / "out", tmp_path / "notes", 2)


@pytest.mark.usefixtures("short_timeout")
def test_a_worker_that_hangs_names_its_sample(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ResourceError, match="a worker of frames of x hangs: sample 40"):
        make(tmp_path, hang)
    assert time.monotonic() - start < 30
