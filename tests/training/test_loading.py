"""Data-loading workers that die, hang or meet a bad file: one line that names the sample, within a time limit."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable

import pytest

from hvd.errors import CorruptError, ResourceError
from hvd.training import loading


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_TIMEOUT_S", 2.0)
    monkeypatch.setattr(loading, "_LOOK_S", 1)


def at_draw(fault: Callable[[], None], place: int) -> Callable[[int], int]:
    def load(draw: int) -> int:
        if draw == place:
            fault()
        return draw

    return load


def read_all(load: Callable[[int], int]) -> list[int]:
    """What arrives before the fault; the error is the test's."""
    arrived: list[int] = []
    batches = loading.prefetch(load, range(8), 2, lambda draw: f"sample-{draw}")
    with pytest.raises((ResourceError, CorruptError)) as caught:
        arrived.extend(iter(batches))
    read_all.error = caught.value  # type: ignore[attr-defined]
    return arrived


@pytest.mark.parametrize("place", [0, 5])
def test_a_worker_that_dies_names_its_sample(place: int) -> None:
    start = time.monotonic()
    arrived = read_all(at_draw(lambda: os.kill(os.getpid(), signal.SIGKILL), place))
    error = read_all.error  # type: ignore[attr-defined]
    assert error.exit_code == 6 and f"worker died: sample-{place} (" in str(error)
    assert len(arrived) <= place and "\n" not in str(error)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("fault", [lambda: time.sleep(600), lambda: os.kill(os.getpid(), signal.SIGSTOP)])
def test_a_worker_that_hangs_names_its_sample_and_is_ended(fault: Callable[[], None]) -> None:
    start = time.monotonic()
    arrived = read_all(at_draw(fault, 3))
    error = read_all.error  # type: ignore[attr-defined]
    assert arrived == [0, 1, 2][: len(arrived)]  # a stopped process may not have sent what it had finished
    assert error.exit_code == 6 and "worker hangs: sample-3 (silent for 2.0 s)" in str(error)
    assert time.monotonic() - start < 20
    end = time.monotonic() + 10
    while multiprocessing.active_children():
        assert time.monotonic() < end, "a worker that hangs was left"
        time.sleep(0.05)


def test_a_bad_file_is_one_line_whichever_process_reads_it() -> None:
    def fault() -> None:
        raise CorruptError("corrupt chunk", where="/data/c.1", why="its checksum does not match")

    assert read_all(at_draw(fault, 4)) == [0, 1, 2, 3]
    error = read_all.error  # type: ignore[attr-defined]
    assert error.exit_code == 4 and str(error) == "corrupt chunk: /data/c.1 (its checksum does not match)"


def test_a_death_between_steps_does_not_strike_in_the_middle_of_one() -> None:
    """torch would raise from its signal handler, wherever the main process is."""
    batches = loading.prefetch(at_draw(lambda: os.kill(os.getpid(), signal.SIGKILL), 1), range(8), 2, str)
    assert next(batches) == 0
    time.sleep(0.5)  # a step: the worker dies meanwhile
    with pytest.raises(ResourceError, match="died: 1"):
        list(batches)
