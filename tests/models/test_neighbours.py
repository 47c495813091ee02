"""Neighbour tables against brute force over all pairs of voxels."""

import itertools

import pytest
import torch
from torch import Tensor

from hvd.models.neighbours import Pairs, find_rows, overlapping_pairs, strided_pairs, submanifold_pairs
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


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3, 3), (2, 2, 2), (1, 1, 0)), ((1, 1, 3), (1, 1, 2), (0, 0, 0)), ((2, 3, 4), (3, 1, 2), (0, 2, 1))],
)
def test_overlapping_pairs_equal_a_loop_over_outputs_and_taps(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], padding: tuple[int, int, int]
) -> None:
    coords = random_coords(2, SHAPE, 0.2, seed=2)
    sizes = zip(SHAPE, kernel, stride, padding, strict=True)
    shape = tuple((size + 2 * pad - wide) // step + 1 for size, wide, step, pad in sizes)
    rows = {tuple(c): row for row, c in enumerate(coords.tolist())}
    taps = list(itertools.product(*map(range, kernel)))
    expected = {}  # output voxel -> its (tap number, input row)
    for batch, *output in itertools.product(range(2), *map(range, shape)):
        inputs = [
            rows.get((batch, *(o * s - p + k for o, s, p, k in zip(output, stride, padding, tap, strict=True))))
            for tap in taps
        ]
        if met := {(number, row) for number, row in enumerate(inputs) if row is not None}:
            expected[(batch, *output)] = met
    coarse, pairs = overlapping_pairs(coords, shape, kernel, stride, padding)
    assert coarse.dtype == torch.int32
    assert coarse.tolist() == [list(voxel) for voxel in sorted(expected)]
    found = {tuple(voxel): set() for voxel in coarse.tolist()}
    for tap, count in enumerate(pairs.counts.tolist()):
        for i, out in zip(*pairs.rows[:, tap, :count].tolist(), strict=True):
            found[tuple(coarse[out].tolist())].add((tap, i))
    assert found == expected


def test_overlapping_pairs_refuse_what_no_number_can_hold() -> None:
    ones = (1, 1, 1)
    with pytest.raises(ValueError, match="too many to number"):
        overlapping_pairs(torch.zeros(1, 4, dtype=torch.int32), (2**21, 2**21, 2**21), ones, ones, (0, 0, 0))


def test_find_rows_equals_a_dictionary() -> None:
    coords = random_coords(2, SHAPE, 0.3, seed=3)
    wanted = torch.cartesian_prod(*(torch.arange(-2, n + 3) for n in (2, *SHAPE)))
    rows = {tuple(c): row for row, c in enumerate(coords.tolist())}
    assert find_rows(coords, wanted).tolist() == [rows.get(tuple(w), -1) for w in wanted.tolist()]


def test_one_voxel_has_no_neighbours() -> None:
    pairs = submanifold_pairs(torch.tensor([[0, 5, 5, 5]], dtype=torch.int32))
    assert pairs.counts.sum() == 0


def test_a_spread_that_no_number_can_hold_is_refused() -> None:
    far = torch.tensor([[0, 0, 0, 0], [100, 2**21, 2**21, 2**21]], dtype=torch.int32)
    with pytest.raises(ValueError, match="too many to number"):
        submanifold_pairs(far)
