"""The stored sparse depth: the nearest point of each map cell, in the cell it projects to."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from hvd.geometry.camera import Pairs
from stages.prep_frames import sparse_depth
from tests.datasets.two_frames import HEIGHT, WIDTH


def test_a_point_lies_in_the_cell_around_it_and_the_nearest_counts() -> None:
    """Map cells of 4 x 4 pixels, whose middles are at 1.5, 5.5, ...: pixel 7.4 is nearest to the second's."""
    uv = np.array([[7.4, 1.0], [7.0, 2.0], [7.6, 1.0], [-0.4, 3.4]], np.float32)
    depth = np.array([9.0, 7.0, 5.0, 3.0], np.float32)
    pairs = Pairs(np.arange(4, dtype=np.int32), np.zeros(4, np.uint8), uv, depth)
    view: Any = SimpleNamespace(width=WIDTH, height=HEIGHT)
    found = sparse_depth(pairs, (view,), (HEIGHT // 4, WIDTH // 4))
    expected = np.zeros((1, HEIGHT // 4, WIDTH // 4), np.float32)
    expected[0, 0, [0, 1, 2]] = 3.0, 7.0, 5.0
    np.testing.assert_array_equal(found, expected)
