"""`hvd reproduce` with nothing to do, as a whole process, against a bare `python -c "import torch"`."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

RUNS = 5


def run() -> list[dict[str, Any]]:
    """Wall seconds of the command after everything was made once (the smoke recipe: the graph has mini's shape)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("hvd")), "reproduce", "--recipe", "smoke", "--store", folder]
        subprocess.run(command, check=True, capture_output=True)
        ours = _seconds(command)
    plain = _seconds([sys.executable, "-c", "import torch"])
    name = "no-op `hvd reproduce` (plain: importing torch alone)"
    return [{"name": name, "plain_s": plain, "ours_s": ours, "ratio": plain / ours}]


def _seconds(command: list[str]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    sys.stdout.write(f"{run()}\n")
