"""Neighbour tables against brute force over all pairs of voxels."""

import pytest
import torch
from torch import Tensor

from hvd.models.neighbours import Pairs, strided_pairs, submanifold_pairs
from tests.models.dense import random_coords

SHAPE = (7, 6, 5)


def _joined(pairs: Pairs, tap: int, count: int) -> set[tuple[int, int]]:
    inputs, outputs = pairs.rows[:, tap, :count].tolist()
    return set(zip(inputs, outputs, strict=True))


def _brute_force(coords: Tensor, step: tuple[int, int, int]) -> set[tuple[int, int]]:
    """(input, output) rows where the input lies `step` from the output, in the same sample."""
    rows = {tuple(c): row for row, c in enumerate(coords.tolist())}
    dx, dy, dz = step
    found = {out: rows.get((b, x + dx, y + dy, z + dz)) for (b, x, y, z), out in rows.items()}
    return {(i, out) for out, i in found.items() if i is not None}


@pytest.mark.parametrize("order", ["ascending", "random"])
def test_submanifold_pairs_equal_brute_force(order: str) -> None:
    coords = random_coords(2, SHAPE, 0.4, seed=0)
    if order == "ascending":
        coords = torch.unique(coords, dim=0)
    pairs = submanifold_pairs(coords)
    for tap in range(27):
        step = (tap // 9 - 1, tap // 3 % 3 - 1, tap % 3 - 1)
        count = int(pairs.counts[min(tap, 26 - tap)])
        if tap != 13:
            assert _joined(pairs, tap, count) == _brute_force(coords, step), step
    assert pairs.counts[13:].tolist() == [0] * 14  # spconv takes them from the taps they mirror


@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 3, 5)])
def test_strided_pairs_join_each_voxel_with_its_block(stride: tuple[int, int, int]) -> None:
    coords = random_coords(2, SHAPE, 0.3, seed=1)
    coarse, pairs = strided_pairs(coords, stride)
    blocks = {(b, x // stride[0], y // stride[1], z // stride[2]) for b, x, y, z in coords.tolist()}
    assert coarse.tolist() == [list(block) for block in sorted(blocks)]
    assert int(pairs.counts.sum()) == len(coords)
    for tap, count in enumerate(pairs.counts.tolist()):
        inside = torch.tensor([tap // (stride[1] * stride[2]), tap // stride[2] % stride[1], tap % stride[2]])
        for i, out in _joined(pairs, tap, count):
            assert torch.equal(coords[i, 1:], coarse[out, 1:] * torch.tensor(stride) + inside)
            assert coords[i, 0] == coarse[out, 0]


def test_one_voxel_has_no_neighbours() -> None:
    pairs = submanifold_pairs(torch.tensor([[0, 5, 5, 5]], dtype=torch.int32))
    assert pairs.counts.sum() == 0


def test_a_spread_that_no_number_can_hold_is_refused() -> None:
    far = torch.tensor([[0, 0, 0, 0], [100, 2**21, 2**21, 2**21]], dtype=torch.int32)
    with pytest.raises(ValueError, match="too many to number"):
        submanifold_pairs(far)
