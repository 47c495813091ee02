"""What the command line answers to a full disk, a closed output, a narrow terminal and a bug of ours."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from cache.store import Store
from tests.cli.small_store import publish

HVD = str(Path(sys.executable).with_name("hvd"))
FULL_DISK = 'mkdir -p "$1" && mount -t tmpfs -o size=400k tmpfs "$1" && shift && exec "$@"'
WORLD = ("world", "--recipe", "smoke", "--workers", "0", "--set", "world.nuscenes.val_scenes=1")


def shell(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `script` with `$1`, `$2`, ..."""
    command = ["bash", "-c", script, "bash", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    for number in range(40):
        publish(store, "frames", {"number": number})
    return store


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The only error line; no trace, no control codes."""
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr + done.stdout, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_small_disk_that_runs_full(tmp_path: Path) -> None:
    """A real one, of 400 KiB, in a namespace of its own."""
    disk = tmp_path / "disk"
    if shell(f"unshare -rm bash -c '{FULL_DISK}' bash \"$1\" true", disk).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    after = '"$@"; code=$?; find "$HVD_STORE" -name "*.tmp" -o -name "manifest.json"; exit $code'
    command = ("bash", "-c", after, "bash", HVD, *WORLD)
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", FULL_DISK, "bash", disk, *command],
        env={**os.environ, "HVD_STORE": str(disk / "store")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert f"no space left on the disk: {disk}/store/.work/world/" in one_error(done)
    assert re.search(r"\(needs ~1\.\d MiB, free \d+ .*\); free some \(hvd gc\), or .* --store$", one_error(done))
    assert done.stdout == "", "temporary files were left"


def test_a_file_size_limit_is_no_bug(tmp_path: Path) -> None:
    done = shell(f'ulimit -f 8; exec "$@" --store {tmp_path}/store', HVD, *WORLD)
    assert done.returncode == 6, done.stderr
    assert f"{tmp_path}/store/.work/world/" in one_error(done) and "File too large" in done.stderr


@pytest.mark.parametrize(
    ("failpoint", "words"),
    [("store.files.half:1:enospc", "no space left"), ("store.manifest.fsync:1:eio", "Input/output error")],
)
def test_faults_in_publication(tmp_path: Path, failpoint: str, words: str) -> None:
    store = tmp_path / "store"
    done = shell(f'exec "$@" --store {store}', HVD, *WORLD, HVD_FAILPOINT=failpoint)
    assert done.returncode == 6
    error = one_error(done)
    assert words in error and f"{store}/.work/world/" in error
    assert ("needs ~" in error and "free " in error) == ("enospc" in failpoint)
    left = {path.name for path in store.rglob("*")}
    assert not left & {"files.json", "manifest.json"}, "unfinished files of the store were left"


def test_a_read_only_store(tmp_path: Path) -> None:
    mount = 'mkdir -p "$1" && mount -t tmpfs -o size=4m,ro tmpfs "$1" && shift && exec "$@"'
    if shell(f"unshare -rm bash -c '{mount}' bash \"$1\" true", tmp_path / "ro").returncode:
        pytest.skip("this machine lets nobody mount a file system")
    store = tmp_path / "ro" / "store"
    command = ["unshare", "-rm", "bash", "-c", mount, "bash", tmp_path / "ro", HVD, *WORLD, "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 6 and str(store) in one_error(done)
    assert one_error(done).endswith("(Read-only file system); name a folder that you may write to with --store")


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 0),
        (">&- 2>&-", 0),
        ("< /dev/null > /dev/null", 0),
        ("> /dev/full", 6),
        ("| head -1; exit $PIPESTATUS", 0),
    ],
)
def test_outputs_that_take_nothing(store: Store, redirection: str, code: int) -> None:
    done = shell(f'"$@" {redirection}', HVD, "ls", "--json", "--store", store.root)
    assert done.returncode == code, done.stderr
    if code:
        assert one_error(done) == "error: No space left on device: standard output"
    else:
        assert done.stderr == ""


def test_a_log_on_a_full_disk_stops_no_work(store: Store) -> None:
    assert shell('"$@" 2> /dev/full', HVD, "verify", "--store", store.root).returncode == 0


def test_a_usage_error_without_stderr() -> None:
    assert shell('"$@" 2>&-', HVD, "prep", "atlantis").returncode == 2


@pytest.mark.parametrize("arguments", [("ls",), ("status",), ("--help",), ("pretrain", "--help")])
def test_twenty_columns(store: Store, arguments: tuple[str, ...]) -> None:
    where = () if "--help" in arguments else ("--store", str(store.root))
    piped = shell('COLUMNS=20 "$@" | cat', HVD, *arguments, *where)
    assert piped.stdout and "\x1b" not in piped.stdout + piped.stderr and "Traceback" not in piped.stderr
    code, text = on_terminal([HVD, *arguments, *where], columns=20)
    assert code == 0 and "Traceback" not in text
    if where:
        assert store.newest("frames").key[:8] in text  # cells are not cut


def on_terminal(command: list[str], columns: int) -> tuple[int, str]:
    """Exit code and all output of a command on a terminal of that width."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    text = b""
    try:
        while piece := os.read(main, 1 << 16):
            text += piece
    except OSError:  # the other end is closed
        pass
    os.close(main)
    return process.wait(), text.decode()


BUG = """
import sys
import hvd.cli.status as module
from hvd import log
def status(*_): log.info("the last line"); raise ZeroDivisionError("one\\ntwo")
module._by_stage = status
from hvd.cli.main import main
main()
"""


@pytest.mark.parametrize("options", [(), ("--debug",)])
def test_a_bug_of_ours_leaves_a_report(tmp_path: Path, store: Store, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", BUG, *options, "status", "--store", store.root]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HVD_DEBUG": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    (report,) = tmp_path.glob("hvd-report-*.txt")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: a bug of ours: ZeroDivisionError: one; report: {report}"
    assert ("Traceback" in done.stderr) == bool(options)
    text = report.read_text()
    assert "Traceback" in text and "ZeroDivisionError: one" in text and "'status'" in text and "'torch'" in text
    assert text.endswith("last log lines:\nthe last line\n")


def test_a_trace_of_a_users_error_only_with_debug() -> None:
    for options in ((), ("--debug",)):
        done = shell('"$@"', HVD, *options, "prep", "atlantis")
        assert done.returncode == 2 and "valid: nuscenes" in done.stderr
        assert ("Traceback" in done.stderr) == bool(options)


def test_no_wait_names_the_holder(tmp_path: Path) -> None:
    store = tmp_path / "store"
    sleeping = subprocess.Popen(
        [HVD, *WORLD, "--store", store], env={**os.environ, "HVD_FAILPOINT": "store.files.write:1:sleep=60"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert sleeping.stderr is not None
        while "running" not in sleeping.stderr.readline():
            assert sleeping.poll() is None
        done = shell('"$@" --no-wait', HVD, *WORLD, "--store", store)
    finally:
        sleeping.kill()
        sleeping.communicate()
    assert done.returncode == 5
    assert f"held by process {sleeping.pid} on {os.uname().nodename} since 20" in one_error(done)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--set=pretrain.teacher.weights=/no/moco.pth", "no such weights file: /no/moco.pth"),
        ("--set=pretrain.teacher.weights=.", "no such weights file: ."),
        ("--set=pretrain.teacher.weights=/proc/self/cmdline", "truncated or no checkpoint"),
        ("--root=/no/such", "no such folder"),
        ("--version=v9", "v9"),
    ],
)
def test_wrong_paths_are_said_before_data_is_read(tmp_path: Path, option: str, words: str) -> None:
    """The tables are no JSON and the sweeps are gone: whoever reads them first would complain of them."""
    root = tmp_path / "nu"
    (root / "samples").mkdir(parents=True)
    (root / "v1.0-mini").mkdir()
    for table in ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose"):
        (root / "v1.0-mini" / f"{table}.json").write_text("broken")
    arguments = ("pretrain", "--root", root, "--version", "v1.0-mini", "--store", tmp_path / "store", option)
    done = shell('"$@"', HVD, *arguments)
    assert done.returncode == 3 and words in one_error(done)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("student", ["no/such.pt", "feedfeed", "."])
def test_a_wrong_student_is_no_training_from_scratch(tmp_path: Path, student: str) -> None:
    arguments = ("finetune", "semkitti", "--recipe", "smoke", "--from", student, "--store", tmp_path / "store")
    done = shell('"$@"', HVD, *arguments)
    assert done.returncode == 3 and student in one_error(done)
    assert not (tmp_path / "store").exists()
