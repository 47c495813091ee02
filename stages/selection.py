"""Which frames of a prepared data set a stage reads."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvd import log
from hvd.datasets.splits import OTHER_SPLIT, SPLIT_KINDS
from hvd.errors import InputError

SPLITS_FILE = "splits.json"


def rows_of(frames: Path, scenes: Sequence[str], splits: str, split: str) -> list[int]:
    """Rows of the frames in `split` ("train", "val", "test" or "all") of the lists `splits` ("paper" or "parametrize").

    Raises:
        InputError: the split holds no frame.
    """
    chosen = scenes_of(frames, scenes, splits, split)
    rows = [row for row, scene in enumerate(scenes) if scene in chosen]
    if not rows:
        lists = _lists(frames)[splits]
        have = {name: sum(scene in set(names) for scene in scenes) for name, names in lists.items()}
        counts = ", ".join(f"{name} {count}" for name, count in have.items() if count) or "no split has any"
        raise InputError(f"split {split} holds no frame", why=f"frames present: {counts}", hint=OTHER_SPLIT)
    log.info(f"split {split} ({splits}): {len(rows)} frames of {len(chosen)} scenes")
    return rows


def scenes_of(frames: Path, scenes: Sequence[str], splits: str, split: str) -> set[str]:
    """Those of `scenes` that are in a split, named as for `rows_of`."""
    return set(scenes) if split == "all" else set(scenes) & set(_lists(frames)[splits].get(split, ()))


def _lists(frames: Path) -> dict[str, dict[str, list[str]]]:
    """What `write_splits` wrote."""
    lists: dict[str, dict[str, list[str]]] = json.loads((frames / SPLITS_FILE).read_text(encoding="utf8"))
    return lists


def usable(rows: Sequence[int], counts: NDArray[np.int64], tokens: Sequence[str], lack: str) -> list[int]:
    """The rows whose count is not zero; says how many are skipped, because they lack what is counted.

    Raises:
        InputError: none is left.
    """
    kept = [row for row in rows if counts[row]]
    if len(kept) < len(rows):
        first = next(tokens[row] for row in rows if not counts[row])
        if not kept:
            raise InputError(f"all {len(rows)} frames have no {lack}", where=first)
        log.warn(f"skipped {len(rows) - len(kept)} of {len(rows)} frames: no {lack}; the first: {first}")
    return kept


def write_splits(frames: Path, lists: dict[str, dict[str, tuple[str, ...]]]) -> None:
    """Store the split lists beside the frames, so that later stages need no data root; says what two splits share."""
    assert set(lists) == set(SPLIT_KINDS), sorted(lists)
    both = sorted(set(lists["paper"].get("train", ())) & set(lists["paper"].get("val", ())))
    if both:
        log.warn(f"{len(both)} of the scenes that train are scored too; the first: {both[0]}")
    (frames / SPLITS_FILE).write_text(json.dumps(lists, indent=1, sort_keys=True), encoding="utf8")
