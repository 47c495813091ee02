"""Which voxels a sparse convolution multiplies together, found by sorting 64-bit voxel numbers.

spconv's own search on the CPU numbers voxels in 32 bits: it silently merges voxels of a batch whose bounding volume
exceeds 2^32, as a batch of uncut sweeps does. The tables here are exact, laid out as spconv's, and made in less time.

Letters: V voxels, U output voxels, T kernel taps. Coordinates are (V, 4) int32 rows [batch, x, y, z], distinct, >= 0.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_CUBE = 27  # taps of a 3x3x3 kernel, numbered in the order of (dx, dy, dz), each -1, 0, 1
_COLUMNS = ((-1, -1), (-1, 0), (-1, 1), (0, -1))  # (dx, dy) of the first 12 taps: three for each, one above the other


class Pairs(NamedTuple):
    """The rows that each kernel tap joins."""

    rows: Tensor  # (2, T, V) int32: input rows, output rows; of tap t the first counts[t] columns hold
    counts: Tensor  # (T,) int32


def submanifold_pairs(coords: Tensor) -> Pairs:
    """Pairs of a 3x3x3 convolution whose outputs sit on its inputs' voxels.

    As spconv wants them, only the 13 taps before the centre are counted: the centre joins each voxel with itself, and
    the taps behind it mirror those before it.
    """
    number, step_x, step_y = _numbers(coords)
    number, row = _ascending(number)
    rows = torch.empty((2, _CUBE, len(number)), dtype=torch.int32)
    counts = [0] * _CUBE

    def put(tap: int, inputs: Tensor, outputs: Tensor) -> None:
        counts[tap] = len(inputs)
        rows[0, tap, : len(inputs)] = rows[1, _CUBE - 1 - tap, : len(inputs)] = row[inputs]
        rows[1, tap, : len(inputs)] = rows[0, _CUBE - 1 - tap, : len(inputs)] = row[outputs]

    fenced = torch.cat([number, number.new_full((3,), -1)])  # so that a place past the end matches nothing
    for column, (dx, dy) in enumerate(_COLUMNS):
        wanted = number + (dx * step_x + dy * step_y - 1)
        place = torch.searchsorted(number, wanted, out_int32=True)
        for dz in range(3):
            hit = fenced.index_select(0, place) == wanted
            outputs = hit.nonzero()[:, 0]
            put(3 * column + dz, place.index_select(0, outputs), outputs)
            place += hit  # a column's voxels follow each other in order: the next one up is here or nowhere
            wanted += 1
    below = (number.diff() == 1).nonzero()[:, 0]
    put(12, below, below + 1)
    return Pairs(rows, torch.tensor(counts, dtype=torch.int32))


def strided_pairs(coords: Tensor, stride: Sequence[int]) -> tuple[Tensor, Pairs]:
    """Output voxels (U, 4) int32, in ascending order, and pairs of a convolution with kernel = stride = (x, y, z)."""
    parent = torch.div(coords, coords.new_tensor([1, *stride]), rounding_mode="floor")
    x, y, z = (coords - parent * coords.new_tensor([1, *stride]))[:, 1:].unbind(1)
    tap = (x * stride[1] + y) * stride[2] + z
    number, _, _ = _numbers(parent)
    distinct, output = torch.unique(number, return_inverse=True)
    coarse = coords.new_empty(len(distinct), 4)
    coarse[output] = parent
    counts = torch.bincount(tap, minlength=math.prod(stride))
    rows = torch.empty((2, len(counts), len(coords)), dtype=torch.int32)
    for index, inputs in enumerate(tap.sort(stable=True)[1].split(counts.tolist())):
        rows[0, index, : len(inputs)] = inputs
        rows[1, index, : len(inputs)] = output[inputs]
    return coarse, Pairs(rows, counts.int())


def overlapping_pairs(
    coords: Tensor, shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Pairs]:
    """Output voxels (U, 4) int32, in ascending order, and pairs of a convolution of any kernel, stride and padding.

    An output voxel exists where a tap meets an input. Along each axis, tap k joins input i with the output o for which
    o stride = i + padding - k, if there is one inside the output volume `shape`, (x, y, z).
    """
    if (int(coords[:, 0].max()) + 1) * math.prod(shape) >= 2**63:
        raise ValueError(f"{int(coords[:, 0].max()) + 1} samples of {tuple(shape)} voxels: too many to number")
    steps = (shape[1] * shape[2], shape[2], 1)
    batch = coords[:, 0].long() * math.prod(shape)
    axes = [
        [_tap(coords[:, 1 + axis].long() + padding[axis] - k, stride[axis], shape[axis]) for k in range(kernel[axis])]
        for axis in range(3)
    ]
    inputs, numbers = [], []
    for taps in itertools.product(*axes):
        inputs.append((taps[0][1] & taps[1][1] & taps[2][1]).nonzero()[:, 0])
        number = batch + sum(output * step for (output, _), step in zip(taps, steps, strict=True))
        numbers.append(number[inputs[-1]])
    distinct, output = torch.unique(torch.cat(numbers), return_inverse=True)
    counts = [len(rows) for rows in inputs]
    rows = torch.empty((2, len(counts), len(coords)), dtype=torch.int32)
    for index, (first, last) in enumerate(zip(inputs, output.split(counts), strict=True)):
        rows[0, index, : len(first)] = first
        rows[1, index, : len(last)] = last
    return _coordinates(distinct, shape), Pairs(rows, torch.tensor(counts, dtype=torch.int32))


def _tap(reach: Tensor, stride: int, size: int) -> tuple[Tensor, Tensor]:
    """The output (V,) that each input meets along one axis, and whether it does (V,)."""
    output = torch.div(reach, stride, rounding_mode="floor")
    return output, (output * stride == reach) & (output >= 0) & (output < size)


def _coordinates(number: Tensor, shape: Sequence[int]) -> Tensor:
    """[batch, x, y, z] (U, 4) int32 of voxels numbered row by row through volumes of `shape`."""
    columns = []
    for size in reversed(shape):
        columns.append(number % size)
        number = torch.div(number, size, rounding_mode="floor")
    return torch.stack([number, *reversed(columns)], dim=1).int()


def find_rows(coords: Tensor, wanted: Tensor) -> Tensor:
    """Rows (M,) int64 of `coords` (V, 4) that hold the voxels `wanted` (M, 4); -1 where there is none."""
    top = coords.amax(dim=0)
    inside = ((wanted >= 0) & (wanted <= top)).all(dim=1)
    number, step_x, step_y = _numbers(coords)
    step_batch = (int(top[1]) + 3) * step_x
    steps = torch.tensor([step_batch, step_x, step_y, 1], device=coords.device)
    asked = (wanted.long() * steps).sum(dim=1) + (step_x + step_y + 1)
    ordered, row = number.sort()
    place = torch.searchsorted(ordered, asked).clamp_(max=len(ordered) - 1)
    return torch.where(inside & (ordered[place] == asked), row[place], -1)


def _numbers(coords: Tensor) -> tuple[Tensor, int, int]:
    """Voxel numbers (V,) int64, ascending with [batch, x, y, z], and their steps along x and y; the step along z is 1.

    A margin around the volume keeps neighbours across its border from having a voxel's number.
    """
    samples, length, width, height = (int(top) + 3 for top in coords.amax(dim=0))
    if samples * length * width * height >= 2**63:
        raise ValueError(f"voxels spread over {samples - 2} x {length} x {width} x {height}: too many to number")
    batch, x, y, z = coords.long().unbind(1)
    return ((batch * length + x + 1) * width + y + 1) * height + z + 1, width * height, height


def _ascending(number: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers in order, and the row (V,) int32 that each came from."""
    if bool((number.diff() > 0).all()):  # as voxelize makes them
        return number, torch.arange(len(number), dtype=torch.int32)
    number, row = number.sort()
    return number, row.int()
