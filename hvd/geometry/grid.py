"""Regular grids: points -> cells, for voxels and for the bird's-eye view alike."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.cells import whole_cells
from hvd.geometry.se3 import Array


@dataclass(frozen=True)
class GridSpec:
    """An axis-aligned grid over [minimum, maximum) with D axes; lengths in metres."""

    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    cell: tuple[float, ...]

    def __post_init__(self) -> None:
        self.shape  # noqa: B018  computed at once, so that a wrong grid fails where it is made

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis.

        Raises:
            ValueError: the axes disagree in number, or the range is no whole, positive number of cells.
        """
        return tuple(whole_cells(*axis) for axis in zip(self.minimum, self.maximum, self.cell, strict=True))

    @property
    def num_cells(self) -> int:
        """Cells in all."""
        return math.prod(self.shape)

    def cells(self, points: Array) -> tuple[Array, Array]:
        """The cell of each point.

        Args:
            points: (..., D) in metres, in the grid's frame.

        Returns:
            index (..., D) int64, -1 on every axis for a point outside; inside (...) bool. A coordinate that is not
            finite is outside.
        """
        if isinstance(points, np.ndarray):
            return self._cells_numpy(points)
        minimum, cell, shape = (points.new_tensor(v) for v in (self.minimum, self.cell, self.shape))
        index = ((points - minimum) / cell).floor()
        inside = ((index >= 0) & (index < shape)).all(-1)
        return index.masked_fill(~inside[..., None], -1).long(), inside

    def _cells_numpy(self, points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        minimum, cell, shape = (np.asarray(v, dtype=points.dtype) for v in (self.minimum, self.cell, self.shape))
        index = np.floor((points - minimum) / cell)
        inside = ((index >= 0) & (index < shape)).all(-1)
        return np.where(inside[..., None], index, -1).astype(np.int64), inside

    def flat(self, index: Array) -> Array:
        """Row-major cell numbers (...) of cell indices (..., D) that lie inside."""
        number = index[..., 0]
        for axis in range(1, len(self.shape)):
            number = number * self.shape[axis] + index[..., axis]
        return number
