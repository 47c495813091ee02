"""Sparse features read between voxels: trilinear, among the voxels that are there.

Letters: U voxels, V places, C channels.
"""

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from hvd.models.neighbours import find_rows

_CORNERS = tuple(itertools.product((0, 1), repeat=3))


def trilinear(feature: Tensor, coords: Tensor, batch: Tensor, place: Tensor) -> Tensor:
    """Features at `place`: the mean of the voxels around it with trilinear weights, over those that exist.

    Trilinear and not inverse-distance weights: they change continuously across a voxel's border, vanish there for the
    voxels left behind, and give a voxel's own feature at its centre.

    Args:
        feature: (U, C) float32.
        coords: (U, 4) int32 [batch, x, y, z].
        batch: (V,) int32.
        place: (V, 3) x, y, z in voxels of `coords`, whose centres have whole numbers.

    Returns:
        (V, C); zeros where none of the eight voxels around exists.
    """
    corners = torch.tensor(_CORNERS, device=place.device)  # (8, 3)
    low = place.floor()
    share = (place - low)[:, None]  # (V, 1, 3)
    weight = torch.where(corners == 1, share, 1 - share).prod(dim=2)  # (V, 8)
    around = (low.long()[:, None] + corners).flatten(0, 1)
    wanted = torch.cat([batch.long().repeat_interleave(len(corners))[:, None], around], dim=1)
    row = find_rows(coords, wanted).view_as(weight)
    weight = weight * (row >= 0)
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    # A weighted sum of rows that never makes the (V, 8, C) array.
    return F.embedding_bag(row.clamp(min=0), feature, mode="sum", per_sample_weights=weight.to(feature.dtype))
