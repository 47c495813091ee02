"""A few inputs for every reader; `python -m tests.fuzz --examples N` runs more."""

import re
import subprocess
import sys

from tests.conftest import REPOSITORY


def test_no_reader_raises_anything_but_our_errors_or_needs_memory():
    """In a process of its own, for its address space is limited."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.fuzz", "--examples", "12"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [int(count) for count in re.findall(r": (\d+) inputs, \d+ refused", done.stdout)]
    assert len(counts) == 16 and min(counts) >= 5, done.stdout
