"""Prepared data is made part by part: parallel over parts, and a restart redoes only the parts that are missing."""

from collections.abc import Callable
from pathlib import Path

from hvd import log
from hvd.datasets.prepared import part_path
from hvd.pool import run_all

FRAMES_PER_PART = 40  # small enough that two workers end together on the built-in world's 240 frames


def part_ranges(count: int) -> list[range]:
    """The frames of each part."""
    return [range(start, min(start + FRAMES_PER_PART, count)) for start in range(0, count, FRAMES_PER_PART)]


def make_parts(
    folder: Path, job: Callable[[range], Callable[[Path], None]], count: int, workers: int, label: str
) -> None:
    """Make each missing part of `count` frames in `workers` processes (below 2: in this one).

    `job(frames)` gives a picklable function that writes the part of those frames to a path, complete or not at all.

    Raises:
        ResourceError: a worker died or hangs; `hvd.pool.doing` in the job says with which sample.
    """
    parts = [(part_path(folder, number), frames) for number, frames in enumerate(part_ranges(count))]
    missing = [(path, frames) for path, frames in parts if not path.exists()]
    if len(missing) < len(parts):
        log.info(f"{label}: {len(parts) - len(missing)} of {len(parts)} parts are there already")
    run_all(_make, [(job(frames), path) for path, frames in missing], workers, label)


def _make(part: tuple[Callable[[Path], None], Path]) -> None:
    make, path = part
    make(path)
