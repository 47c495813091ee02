"""Every random draw comes from a generator seeded by what is drawn for, never from a worker's or a library's state."""

import hashlib

import numpy as np
import torch


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that depends on all `parts`, the same on every machine and Python."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator for `parts`, for example (seed, step, sample)."""
    return np.random.default_rng(seed_of(*parts))


def torch_generator(*parts: int | str) -> torch.Generator:
    """A CPU torch generator for `parts`."""
    return torch.Generator().manual_seed(seed_of(*parts))


def start(seed: int, threads: int) -> None:
    """Fix what decides a training's bits on the CPU: initial weights come from `seed`, sums from `threads`."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
