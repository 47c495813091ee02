"""Failures at every file operation of whole stages: complete artifacts or none, and in the end the same bytes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: a campaign flushes thousands of files."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


# Every operation takes minutes: the suite visits each STRIDE-th, and a stride of 1 all (see campaign.py).
@pytest.mark.parametrize(
    ("case", "action", "operations", "stride"),
    [
        ("frames", "kill", 500, 101),
        ("images", "kill", 100, 31),
        ("world", "kill", 120, 13),
        ("world", "enospc", 120, 31),
        ("training", "kill", 70, 3),
        ("training", "eio", 70, 11),
        ("export", "kill", 50, 13),
    ],
)
def test_every_operation_of_a_stage_fails(memory: Path, case: str, action: str, operations: int, stride: int) -> None:
    command = [sys.executable, "-m", "tests.stages.campaign", case, action, str(memory), str(stride)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found, failed = map(int, done.stdout.split())
    assert found >= operations
    assert failed == -(-found // stride)
