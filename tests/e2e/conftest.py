"""One store for all end-to-end tests: what a command makes, the next one finds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Hvd = Callable[..., subprocess.CompletedProcess[str]]


def call(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `hvd` as a user would, in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HVD_")}
    return subprocess.run(
        [Path(sys.executable).with_name("hvd"), *arguments],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """An empty folder; the store appears in it as .hvd, the default."""
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def hvd(workplace) -> Hvd:
    """`hvd("prep", "nuscenes")` in the shared workplace; fails the test unless `code` is the exit code."""

    def run(*arguments: str, code: int = 0, cwd: Path = workplace, **environment: str):
        done = call(*arguments, cwd=cwd, **environment)
        assert done.returncode == code, f"hvd {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def hvd_json(hvd) -> Callable[..., Any]:
    """The object that a command prints with --json."""
    return lambda *arguments, **more: json.loads(hvd(*arguments, "--json", **more).stdout)
