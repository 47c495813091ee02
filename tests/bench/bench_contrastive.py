"""InfoNCE of 3072 matched rows of 64 channels, forward + backward: `python -m tests.bench.bench_contrastive`.

The plain way is autograd through the whole matrix of similarities.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hvd.losses.contrastive import TEMPERATURE, info_nce
from tests.bench.measure import Work, compare

ROWS, CHANNELS = 3072, 64
THREADS = 1  # as the small recipes train


def run() -> list[dict[str, Any]]:
    """One row."""
    name = f"InfoNCE of {ROWS:,} rows, forward + backward"
    return [compare(name, partial(_work, plain), partial(_work, ours))]


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """The toolkit's."""
    return info_nce(student, teacher).loss


def plain(student: Tensor, teacher: Tensor) -> Tensor:
    """By the definition; top1 is found too, as ours does."""
    logits = student @ teacher.T / TEMPERATURE
    target = torch.arange(len(logits))
    (logits.detach().argmax(dim=1) == target).float().mean()
    return F.cross_entropy(logits, target)


def _work(loss: Callable[[Tensor, Tensor], Tensor]) -> Work:
    torch.set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, ROWS, CHANNELS, generator=generator)
    student, teacher = (F.normalize(x, dim=1).requires_grad_() for x in drawn)

    def work() -> None:
        student.grad = teacher.grad = None
        loss(student, teacher).backward()

    return work


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
