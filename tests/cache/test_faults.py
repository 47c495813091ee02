"""Failures at every write, flush and rename: the store holds the old state or the new one, never anything between."""

import subprocess
import sys
from pathlib import Path

import pytest

from cache import disk
from cache.failpoint import parse


@pytest.mark.parametrize(
    ("operation", "action", "places"),
    [
        ("publish", "kill", 20),
        ("publish", "enospc", 20),
        ("publish", "eio", 20),
        ("unpack", "kill", 25),
        ("unpack", "enospc", 25),
        ("unpack, then the stage", "kill", 25),
        ("collect", "kill", 3),
        ("replace", "kill", 20),
        ("replace", "eio", 20),
    ],
)
def test_every_place_fails_once(tmp_path: Path, operation: str, action: str, places: int) -> None:
    script = Path(__file__).with_name("campaign.py")
    command = [sys.executable, script, operation, action, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= places


@pytest.mark.parametrize("able", [True, False])
def test_a_replaced_artifact_keeps_its_place_also_where_names_cannot_be_exchanged(
    store, publish, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    damaged, later = publish(0), publish(1)
    if not able:
        monkeypatch.setattr(disk, "exchange", lambda *_: False)
    (damaged.path / "a.bin").write_bytes(b"omega")
    made = publish(0, replaces=damaged)
    assert made.verify(full=True) == [] and made.sequence == damaged.sequence
    assert store.artifacts() == [made, later]
    assert not list((store.root / ".work").glob("*/*"))


def test_failpoint_from_the_environment(python) -> None:
    code = "from cache.failpoint import failpoint as f; f('a'); f('b'); print(1, flush=True); f('a'); print(2)"
    untouched = python(code, HVD_FAILPOINT="")
    killed = python(code, HVD_FAILPOINT="a:2:kill")
    assert (untouched.communicate()[0], untouched.returncode) == ("1\n2\n", 0)
    assert (killed.communicate()[0], killed.returncode) == ("1\n", -9)


def test_actions() -> None:
    for action, code in (("enospc", 28), ("eio", 5)):
        failure = parse(f"*:2:{action}")
        failure.passed("first")
        with pytest.raises(OSError) as caught:
            failure.passed("second")
        assert caught.value.errno == code
        failure.passed("third")
    parse("x:1:sleep=0.01").passed("x")


@pytest.mark.parametrize("text", ["x", "x:1", "x:one:kill", "x:1:explode", "x:1:sleep=long"])
def test_malformed_failpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)
