"""Overlap of turned rectangles against shapely, and where sides fall on one another."""

import math

import numpy as np
import pytest
from shapely.geometry import Polygon

from hvd.geometry.rectangles import intersection_area, may_overlap, rectangle_corners


def random_rectangles(rng: np.random.Generator, count: int, spread: float) -> np.ndarray:
    place = rng.normal(0, spread, (count, 2))
    return np.concatenate([place, rng.uniform(0.3, 5, (count, 2)), rng.uniform(-7, 7, (count, 1))], axis=1)


@pytest.mark.parametrize("origin", [0.0, 70.0, 5000.0])
def test_equals_shapely(origin: float) -> None:
    rng = np.random.default_rng(0)
    first, second = (random_rectangles(rng, 500, 1.5) + np.array([origin, -origin, 0, 0, 0]) for _ in range(2))
    expected = [
        Polygon(a).intersection(Polygon(b)).area
        for a, b in zip(rectangle_corners(first), rectangle_corners(second), strict=True)
    ]
    assert np.count_nonzero(expected) > 250
    np.testing.assert_allclose(intersection_area(first, second), expected, atol=1e-8)
    assert (np.array(expected)[~may_overlap(first, second)] == 0).all()


def test_sides_on_one_another() -> None:
    """Shifted along a side by s, turned by quarters, at any angle: the area is known."""
    rng = np.random.default_rng(1)
    base = random_rectangles(rng, 400, 30.0)
    shift = rng.uniform(-0.9, 0.9, 400) * base[:, 2]
    moved = base.copy()
    moved[:, 0] += shift * np.cos(base[:, 4])
    moved[:, 1] += shift * np.sin(base[:, 4])
    np.testing.assert_allclose(intersection_area(base, moved), (base[:, 2] - np.abs(shift)) * base[:, 3], atol=1e-10)
    turned = base[:, [0, 1, 3, 2, 4]] + [0, 0, 0, 0, math.pi / 2]
    np.testing.assert_allclose(intersection_area(base, turned), base[:, 2] * base[:, 3], atol=1e-10)
    nudged = base + rng.normal(0, 1e-16, base.shape)
    np.testing.assert_allclose(intersection_area(base, nudged), base[:, 2] * base[:, 3], atol=1e-10)
    np.testing.assert_allclose(
        intersection_area(base, base + np.array([0, 0, 1, 1, math.pi])), base[:, 2] * base[:, 3], atol=1e-10
    )


def moved(x: float, angle: float) -> np.ndarray:
    return np.array([[x, 0.0, 1, 1, angle]])


def test_by_hand() -> None:
    """A unit square in one turned by 45 degrees: an octagon of area 2 (sqrt 2 - 1); one apart; one that touches."""
    square = moved(0, 0)
    assert intersection_area(square, moved(0, math.pi / 4))[0] == pytest.approx(2 * (math.sqrt(2) - 1))
    assert intersection_area(square, moved(1.2, 0))[0] == 0
    assert intersection_area(square, moved(1, 0))[0] == pytest.approx(0, abs=1e-12)
    assert intersection_area(np.empty((0, 5)), np.empty((0, 5))).shape == (0,)


def test_corners_turn_left_from_the_front() -> None:
    corners = rectangle_corners(np.array([[10.0, 5, 4, 2, math.pi / 2]]))[0]
    np.testing.assert_allclose(corners, [[9, 7], [9, 3], [11, 3], [11, 7]], atol=1e-12)
