"""Which samples a step draws, and workers that prepare them ahead. Neither changes a result: `load(draw)` decides."""

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from ctypes import Array, c_longlong
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hvd.errors import HvdError, ResourceError
from hvd.training.seeding import numpy_generator

T = TypeVar("T")
_TIMEOUT_S = 300.0  # a worker that is silent for longer hangs
_LOOK_S = 5  # how often a wait looks whether the workers live


class Order:
    """Batches of a shuffled pass after a shuffled pass over `count` items, as a function of the step."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        assert count > 0, "an empty training set"
        self.count, self.size, self.seed = count, batch, seed

    def batch(self, step: int) -> list[int]:
        """Indices of the items of step `step`, counted from 0."""
        return [self._item(place) for place in range(step * self.size, (step + 1) * self.size)]

    def _item(self, place: int) -> int:
        epoch, rest = divmod(place, self.count)
        return int(_pass(self.count, self.seed, epoch)[rest])


@lru_cache(maxsize=4)  # workers run ahead into the next pass, and the order of a large data set takes milliseconds
def _pass(count: int, seed: int, epoch: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return numpy_generator(seed, "order", epoch).permutation(count)


class _Failed(NamedTuple):
    """An error on its way from a worker: raised there, torch would replace its message by a trace."""

    error: Exception


class _Draws(Dataset[T | _Failed]):
    def __init__(self, load: Callable[[int], T], draws: range, doing: "Array[c_longlong]") -> None:
        self.load, self.draws, self.doing = load, draws, doing

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> T | _Failed:
        worker = get_worker_info()
        assert worker is not None, "only workers read from here"
        self.doing[2 * worker.id : 2 * worker.id + 2] = [os.getpid(), self.draws[index]]
        try:
            return self.load(self.draws[index])
        except (HvdError, OSError, MemoryError) as error:
            return _Failed(error)


def prefetch(load: Callable[[int], T], draws: range, workers: int, name: Callable[[int], str]) -> Iterator[T]:
    """`load(draw)` for each draw in order, prepared ahead by `workers` processes (0: in this one).

    Raises:
        ResourceError: a worker died, or is silent for minutes; `name(draw)` says what it was loading.
        HvdError, OSError, MemoryError: what `load` raised in a worker.
    """
    if workers == 0 or len(draws) < 2:
        yield from map(load, draws)
        return
    doing = multiprocessing.RawArray(c_longlong, 2 * workers)  # each worker's process id and draw
    loader: DataLoader[T | _Failed] = DataLoader(
        _Draws(load, draws, doing), None, num_workers=workers, timeout=_LOOK_S, multiprocessing_context="fork"
    )
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, handler)  # torch's own would raise in the middle of a step: we look between steps
    for place, _ in enumerate(draws):
        batch = _wait(batches, place % workers, doing, name)  # torch asks its workers in turn
        if isinstance(batch, _Failed):
            raise batch.error
        yield batch


def _wait(batches: Iterator[T], worker: int, doing: "Array[c_longlong]", name: Callable[[int], str]) -> T:
    end = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return next(batches)
        except RuntimeError as error:  # torch's word for a worker that died or is slow
            text = str(error)
            silent, dead = "timed out after" in text, re.findall(r"\d+", text)
            if silent and time.monotonic() < end:
                continue
            if not silent and "exited unexpectedly" not in text:
                raise
            at = dict(zip(doing[::2], doing[1::2], strict=True))  # process -> draw
            _kill(list(at))
            draws = [doing[2 * worker + 1]] if silent else [draw for pid, draw in at.items() if str(pid) in dead]
            what, why = ("hangs", f"silent for {_TIMEOUT_S} s") if silent else ("died", "killed, or out of memory")
            raise ResourceError(f"a data-loading worker {what}", where="; ".join(map(name, draws)), why=why,
                                hint="what was saved is kept; --workers 0 shows where it stops") from error  # fmt: skip


def _kill(workers: Collection[int | None]) -> None:
    """End the workers, also those that hear no signal: the interpreter would wait for them at its end."""
    for child in multiprocessing.active_children():
        if child.pid in workers:
            child.kill()
