"""Which samples a step draws, and workers that prepare them ahead. Neither changes a result: `load(draw)` decides."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset

from hvd.errors import ResourceError
from hvd.training.seeding import numpy_generator

T = TypeVar("T")
_TIMEOUT_S = 300  # a worker that is silent for longer hangs


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
        return int(self._pass(epoch)[rest])

    def _pass(self, epoch: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return numpy_generator(self.seed, "order", epoch).permutation(self.count)


class _Draws(Dataset[T]):
    def __init__(self, load: Callable[[int], T], draws: range) -> None:
        self.load, self.draws = load, draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> T:
        return self.load(self.draws[index])


def prefetch(load: Callable[[int], T], draws: range, workers: int) -> Iterator[T]:
    """`load(draw)` for each draw in order, prepared ahead by `workers` processes (0: in this one).

    Raises:
        ResourceError: a worker died or hangs.
    """
    if workers == 0 or len(draws) < 2:
        yield from map(load, draws)
        return
    loader: DataLoader[T] = DataLoader(
        _Draws(load, draws), batch_size=None, num_workers=workers, timeout=_TIMEOUT_S, multiprocessing_context="fork"
    )
    batches = iter(loader)
    for draw in draws:
        try:
            batch = next(batches)
        except RuntimeError as error:  # torch's word for a worker that died or timed out
            if "worker" not in str(error):
                raise
            why = str(error).splitlines()[0]
            raise ResourceError("a data-loading worker failed", where=f"draw {draw}", why=why,
                                hint="try --workers 0 to see its error") from error  # fmt: skip
        yield batch
