"""A stage that is told to stop saves its state, and the same command goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def wait_for(pattern: str, store: Path, process: subprocess.Popen, limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not any(store.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"no {pattern} within {limit_s} s"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_goes_on(hvd, workplace, number, code):
    arguments = ["pretrain", "--recipe", "smoke", "--set", "pretrain.steps=60", "--set", "pretrain.save_every=5"]
    arguments += ["--seed", str(code)]
    hvd("prep", "nuscenes", "--recipe", "smoke")
    command = [Path(sys.executable).with_name("hvd"), *arguments]
    process = subprocess.Popen(command, cwd=workplace, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(".work/pretrain/*/scratch/step-*.pt", workplace / ".hvd", process)
    os.kill(process.pid, number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == code, errors
    assert "run the same command to go on" in errors
    assert not list((workplace / ".hvd").glob("pretrain/*/*/.work"))
    finished = hvd(*arguments)
    assert "resuming after step" in finished.stderr


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    """kill -9 leaves no worker behind, and the next run uses the parts that were finished."""
    script = (
        "import os, time\nfrom hvd.pool import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    with worker_pool(2, 'test') as pool:\n"
        "        print(*[pool.submit(os.getpid).result() for _ in range(2)], flush=True)\n"
        "        pool.submit(time.sleep, 600).result()\n"
    )
    path = tmp_path / "parent.py"
    path.write_text(script)
    parent = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True)
    children = {int(pid) for pid in parent.stdout.readline().split()}
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in children):
        assert time.monotonic() < end, "a worker outlived its parent"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
