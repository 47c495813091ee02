"""Worker processes that end when their parent does, however it ends."""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from hvd.errors import ResourceError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def worker_pool(workers: int, label: str) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes; on an error or a signal its running tasks are asked to stop, not waited for.

    Raises:
        ResourceError: a worker died.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow, initargs=(os.getpid(),)) as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                hint = "what is finished is kept: run again, with fewer workers"
                raise ResourceError(f"a worker of {label} died", why="killed, or out of memory", hint=hint) from error
            raise


def _follow(parent: int) -> None:
    """Get SIGTERM when the parent dies, even of kill -9; the prompt's Ctrl-C is for the parent to pass on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
