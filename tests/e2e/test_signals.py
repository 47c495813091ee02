"""A stage that is told to stop saves its state, and the same command goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cache.lock import owner_of
from cache.store import Store


def wait_for(pattern: str, store: Path, process: subprocess.Popen, limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not any(store.glob(pattern)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"no {pattern} within {limit_s} s"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_goes_on(hvd, workplace, number, code):
    arguments = ["pretrain", "--recipe", "smoke", "--set", "pretrain.steps=24", "--set", "pretrain.save_every=3"]
    arguments += ["--seed", str(code)]
    hvd("prep", "nuscenes", "--recipe", "smoke")
    command = [Path(sys.executable).with_name("hvd"), *arguments]
    process = subprocess.Popen(command, cwd=workplace, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(".work/pretrain/*/scratch/step-*.pt", workplace / ".hvd", process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does: the data-loading workers get it too
    else:
        os.kill(process.pid, number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == code, errors
    assert "run the same command to go on" in errors
    locks = list((workplace / ".hvd").glob(".work/pretrain/*.lock"))
    assert locks and not any(map(owner_of, locks))
    finished = hvd(*arguments)
    assert "resuming after step" in finished.stderr


UNWINDING = """
import sys, time
import hvd.cli.status as module
def status(*_):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("unwinding", flush=True)
        time.sleep(60)
module._by_stage = status
sys.argv[1:] = ["status"]
from hvd.cli.main import main
main()
"""
AT_A_STEP = """
import time
from hvd.training.interrupt import StopRequest
def note(self, signum, frame, plain=StopRequest._on_signal):
    plain(self, signum, frame)
    print("noted", flush=True)
StopRequest._on_signal = note
with StopRequest():
    print("ready", flush=True)
    while True: time.sleep(0.1)
"""


def heed_interrupts() -> None:
    """A shell without job control starts its background jobs, and so these tests, with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("script", [UNWINDING, AT_A_STEP])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_second_signal_quits_at_once(tmp_path, script, number):
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    for _ in range(2):
        assert process.stdout.readline().strip() in ("ready", "unwinding", "noted")
        process.send_signal(number)
    errors = process.communicate(timeout=10)[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in errors


def test_a_wait_for_a_lock_ends_with_a_signal(tmp_path):
    script = (
        "import signal\nfrom pathlib import Path\nfrom cache.store import Store\nfrom hvd.cli import main\n"
        "signal.signal(signal.SIGTERM, main._stop)\n"
        "try:\n    with Store(Path('.')).claim('prep', 64 * '0', on_wait=lambda _: print('waits', flush=True)): pass\n"
        "except BaseException as error:\n    raise SystemExit(main.exit_code(error))\n"
    )
    with Store(tmp_path).claim("prep", 64 * "0"):
        command = [sys.executable, "-c", script]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "waits\n"
        process.terminate()
        assert process.wait(timeout=10) == 143


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
