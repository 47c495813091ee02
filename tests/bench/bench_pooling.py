"""Mean feature of each superpixel, at 6 images of 224 x 416 x 64 channels: `python -m tests.bench.bench_pooling`.

The plain way multiplies by a one-hot sparse matrix (superpixels x pixels), as SLidR does.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hvd.losses.contrastive import pool_pixels
from tests.bench.measure import Work, compare

IMAGES, CHANNELS, HEIGHT, WIDTH, SUPERPIXELS = 6, 64, 224, 416, 150
THREADS = 2


def run() -> list[dict[str, Any]]:
    """Forward alone, and forward + backward."""
    return [
        compare(f"superpixel pooling {what}", partial(_work, plain, backward), partial(_work, ours, backward))
        for what, backward in (("forward", False), ("forward + backward", True))
    ]


def inputs() -> tuple[Tensor, Tensor]:
    """Features (I, C, h, w), and superpixels (I, h, w): the pixels nearest to each of 150 places."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([HEIGHT, WIDTH])
    places = torch.rand(IMAGES, SUPERPIXELS, 2, generator=generator) * size
    pixels = torch.cartesian_prod(torch.arange(HEIGHT), torch.arange(WIDTH)).float()
    nearest = torch.stack([torch.cdist(pixels, place).argmin(dim=1) for place in places])
    features = torch.randn(IMAGES, CHANNELS, HEIGHT, WIDTH, generator=generator)
    return features, nearest.reshape(IMAGES, HEIGHT, WIDTH)


def ours(features: Tensor, superpixel: Tensor) -> Tensor:
    """The toolkit's."""
    return pool_pixels(features, superpixel, SUPERPIXELS)[0]


def plain(features: Tensor, superpixel: Tensor) -> Tensor:
    """By a one-hot matrix."""
    first = torch.arange(IMAGES)[:, None, None] * SUPERPIXELS
    place = torch.stack([(superpixel + first).flatten(), torch.arange(superpixel.numel())])
    size = (IMAGES * SUPERPIXELS, superpixel.numel())
    one_hot = torch.sparse_coo_tensor(place, torch.ones(superpixel.numel()), size, check_invariants=False)
    total = one_hot @ features.permute(0, 2, 3, 1).flatten(0, 2)
    return total / torch.sparse.sum(one_hot, 1).to_dense().clamp(min=1)[:, None]


def _work(pool: Callable[[Tensor, Tensor], Tensor], backward: bool) -> Work:
    torch.set_num_threads(THREADS)
    features, superpixel = inputs()
    features.requires_grad_(backward)

    def work() -> None:
        means = pool(features, superpixel)
        if backward:
            features.grad = None
            means.backward(means.detach())

    return work


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
