"""Dense counterparts of the sparse layers: what the oracles compare with.

Letters: B samples, V voxels, C channels, (X, Y, Z) volume.
"""

import torch
from torch import Tensor


def random_coords(samples: int, shape: tuple[int, int, int], share: float, seed: int) -> Tensor:
    """Distinct occupied voxels (V, 4) int32 [batch, x, y, z], in random order."""
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(samples, *shape, generator=generator) < share
    coords = occupied.nonzero().int()
    return coords[torch.randperm(len(coords), generator=generator)]


def to_dense(feature: Tensor, coords: Tensor, samples: int, shape: tuple[int, int, int]) -> Tensor:
    """(V, C) at (V, 4) -> (B, C, X, Y, Z), 0 elsewhere; differentiable."""
    volume = feature.new_zeros(samples, *shape, feature.shape[1])
    return volume.index_put(coords.long().unbind(1), feature).permute(0, 4, 1, 2, 3)


def at(volume: Tensor, coords: Tensor) -> Tensor:
    """(B, C, X, Y, Z) at (V, 4) -> (V, C)."""
    batch, x, y, z = coords.long().unbind(1)
    return volume[batch, :, x, y, z]
