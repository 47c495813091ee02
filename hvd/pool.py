"""Worker processes that end when their parent does, however it ends, and are missed when they die or hang."""

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from hvd import log
from hvd.errors import ResourceError

T = TypeVar("T")
Item = TypeVar("Item")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_TIMEOUT_S = 600.0  # a worker that is busy with one sample for longer hangs
_LOOK_S = 1.0
_NAME_BYTES = 256


class _Slot(ctypes.Structure):
    """What a worker is doing, in memory that its parent reads: the name is empty while it waits for work."""

    _fields_ = (("since", ctypes.c_double), ("name", ctypes.c_char * _NAME_BYTES))


_mine = _Slot()  # of this process; a worker gets one that its parent sees


def doing(name: str) -> None:
    """Note which sample this process works on, for the message if it dies or hangs."""
    _mine.since, _mine.name = time.monotonic(), name.encode()[: _NAME_BYTES - 1]


class Pool(ProcessPoolExecutor):
    """Fresh processes that note what they are doing."""

    def __init__(self, workers: int, label: str) -> None:
        self.label = label
        context = multiprocessing.get_context("spawn")
        self._slots = context.RawArray(_Slot, workers)
        free = context.Value("i", 0)
        super().__init__(workers, mp_context=context, initializer=_follow, initargs=(os.getpid(), self._slots, free))

    def busy(self, longer_than_s: float = 0.0) -> list[str]:
        """What the workers are doing now, or were when they died, if for longer than that."""
        now = time.monotonic()
        return [slot.name.decode(errors="replace") for slot in self._slots
                if slot.name and now - slot.since >= longer_than_s]  # fmt: skip

    def as_completed(self, jobs: "list[Future[T]]") -> "Iterator[Future[T]]":
        """The jobs as they end, submitted with `noted`.

        Raises:
            ResourceError: a worker has been busy with one sample for minutes.
        """
        pending = set(jobs)
        while pending:
            done, pending = wait(pending, _LOOK_S, FIRST_COMPLETED)
            yield from done
            if not done and (hanging := self.busy(_TIMEOUT_S)):
                for child in multiprocessing.active_children():
                    child.kill()  # one that hangs may hear nothing else
                where, why = " or ".join(hanging), f"busy for {_TIMEOUT_S:g} s"
                hint = "what is finished is kept: run again"
                raise ResourceError(f"a worker of {self.label} hangs", where=where, why=why, hint=hint)


def run_all(job: "Callable[[Item], T]", items: Sequence[Item], workers: int, label: str) -> list[T]:
    """What `job` gives for each of `items`, in their order; made in `workers` processes (below 2: in this one).

    Raises:
        ResourceError: a worker died or hangs; `doing` in the job says with which sample.
    """
    if workers < 2 or len(items) < 2:
        return [job(item) for item in log.track(items, label)]
    with worker_pool(min(workers, len(items)), label) as pool:
        futures = [pool.submit(noted, job, item) for item in items]
        for future in log.track(pool.as_completed(futures), label, total=len(futures)):
            future.result()
    return [future.result() for future in futures]


def noted(job: Callable[..., T], *args: object) -> T:
    """In a worker: run `job`, and wait for work afterwards, unless it died."""
    try:
        return job(*args)
    finally:
        doing("")


@contextmanager
def worker_pool(workers: int, label: str, option: str = "--workers") -> Iterator[Pool]:
    """A pool of fresh processes; on an error or a signal its running tasks are asked to stop, not waited for.

    Args:
        workers: how many.
        label: what they make, for messages.
        option: of the command line, that says how many.

    Raises:
        ResourceError: a worker died.
    """
    with Pool(workers, label) as pool:
        try:
            yield pool
        except BaseException as error:
            for child in multiprocessing.active_children():
                child.terminate()
            pool.shutdown(wait=False)  # cancelling what waits would make Python's own thread stumble over a dead worker
            if isinstance(error, BrokenProcessPool):
                hint = f"what is finished is kept: run again, with fewer {option}"
                raise ResourceError(f"a worker of {label} died", where=" or ".join(pool.busy()) or None,
                                    why="killed, or out of memory", hint=hint) from error  # fmt: skip
            raise


def _follow(parent: int, slots: "ctypes.Array[_Slot]", free: "Synchronized[int]") -> None:
    """Get SIGTERM when the parent dies, even of kill -9; the prompt's Ctrl-C is for the parent to pass on."""
    global _mine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
    with free.get_lock():
        _mine = slots[free.value]
        free.value += 1
