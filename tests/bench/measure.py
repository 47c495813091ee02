"""Time and memory of two ways to do one thing."""

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPEATS = 7

Work = Callable[[], object]
Prepare = Callable[[], Work]  # a function of a module: it is called in a process of its own


def compare(name: str, plain: Prepare, ours: Prepare) -> dict[str, Any]:
    """One row of the report: median seconds, and MiB by which the peak resident size rises at work.

    The two take turns, so that other load on the machine hits both; memory is that of a fresh process for each.
    """
    plain_s, ours_s = _in_child(_seconds, plain, ours)
    return {
        "name": name,
        "plain_s": plain_s,
        "ours_s": ours_s,
        "ratio": plain_s / ours_s,
        "plain_mib": _in_child(_peak_mib, plain),
        "ours_mib": _in_child(_peak_mib, ours),
    }


def _in_child(measure: Callable[..., Any], *prepare: Prepare) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, prepare)


def _seconds(*prepare: Prepare) -> tuple[float, ...]:
    works = [make() for make in prepare]
    turns = [[_timed(work) for work in works] for _ in range(REPEATS + 1)]
    return tuple(statistics.median(times) for times in zip(*turns[1:], strict=True))  # the first turn warms up


def _timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_mib(prepare: Prepare) -> float:
    work = prepare()
    before = _memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew, from the present size
    work()
    return _memory_mib("VmHWM") - before


def _memory_mib(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024
