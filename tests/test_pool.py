"""Worker processes that die or hang are noticed in time, and what they were doing is named."""

import os
import signal
import time
from pathlib import Path

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


def test_a_worker_that_hangs_names_its_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_TIMEOUT_S", 1.0)
    monkeypatch.setattr(pool, "_LOOK_S", 0.1)
    start = time.monotonic()
    with pytest.raises(ResourceError, match="a worker of frames of x hangs: sample 40"):
        make(tmp_path, hang)
    assert time.monotonic() - start < 30
