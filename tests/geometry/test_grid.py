"""Grids: hand-computed cells, borders, and points that are nowhere."""

import numpy as np
import pytest
import torch

from hvd.geometry.grid import GridSpec

PAPER = GridSpec((-51.2, -51.2), (51.2, 51.2), (0.4, 0.4))


def test_paper_grid() -> None:
    assert PAPER.shape == (256, 256)
    assert PAPER.num_cells == 65536


@pytest.mark.parametrize(
    ("minimum", "maximum", "cell"),
    [((0.0,), (1.0,), (0.3,)), ((0.0,), (0.0,), (1.0,)), ((1.0,), (0.0,), (1.0,)), ((0.0,), (1.0,), (0.0,))],
)
def test_not_whole_cells(minimum: tuple[float], maximum: tuple[float], cell: tuple[float]) -> None:
    with pytest.raises(ValueError, match="cells"):
        GridSpec(minimum, maximum, cell)


def test_axes_differ_in_number() -> None:
    with pytest.raises(ValueError, match="zip"):
        GridSpec((0.0, 0.0), (1.0,), (1.0,))


def test_cells_by_hand() -> None:
    grid = GridSpec((-1.0, 0.0, 0.0), (1.0, 3.0, 1.0), (0.5, 1.0, 1.0))
    points = np.array(
        [
            [-1.0, 0.0, 0.0],  # the minimum belongs to the grid
            [0.49, 2.99, 0.5],
            [1.0, 0.0, 0.0],  # the maximum does not
            [-1.001, 0.0, 0.0],
            [0.0, np.nan, 0.0],
            [0.0, np.inf, 0.0],
            [0.0, 0.0, -np.inf],
        ]
    )
    index, inside = grid.cells(points)
    assert inside.tolist() == [True, True, False, False, False, False, False]
    assert index[:2].tolist() == [[0, 0, 0], [2, 2, 0]]
    assert (index[2:] == -1).all()
    assert index.dtype == np.int64
    assert grid.flat(index[:2]).tolist() == [0, (2 * 3 + 2) * 1 + 0]


def test_flat_is_row_major() -> None:
    grid = GridSpec((0.0,) * 3, (4.0, 5.0, 6.0), (1.0,) * 3)
    index = np.stack(np.unravel_index(np.arange(120), (4, 5, 6)), axis=1)
    np.testing.assert_array_equal(grid.flat(index), np.arange(120))


def test_torch_gives_the_same() -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (2, 500, 2))
    points[0, 0] = np.nan
    index, inside = PAPER.cells(points)
    torch_index, torch_inside = PAPER.cells(torch.from_numpy(points))
    np.testing.assert_array_equal(torch_index.numpy(), index)
    np.testing.assert_array_equal(torch_inside.numpy(), inside)
    np.testing.assert_array_equal(PAPER.flat(torch_index).numpy(), PAPER.flat(index))
