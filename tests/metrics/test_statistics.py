"""Intervals by hand: Student's t for 2 and 4 degrees of freedom is 4.303 and 2.776."""

import math

import pytest

from hvd.metrics.statistics import interval, paired


def test_interval_by_hand():
    found = interval([1.0, 2.0, 3.0])  # deviation 1, standard error 1 / sqrt(3)
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert found.num == 3
    assert interval([0.0, 1.0, 2.0, 3.0, 4.0]).half_width == pytest.approx(2.776 * math.sqrt(2.5 / 5), abs=1e-3)


def test_one_value_has_no_width_and_proves_nothing():
    found = interval([5.0])
    assert math.isnan(found.half_width)
    assert not found.above_zero


def test_differences_are_paired_by_seed():
    found = paired({0: 10.0, 1: 21.0, 2: 30.0, 7: 1.0}, {0: 8.0, 1: 20.0, 2: 27.0, 3: 99.0})
    assert (found.mean, found.num) == (2.0, 3)
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert not found.above_zero  # 2 +- 2.48
    assert paired({0: 2.0, 1: 2.1}, {0: 1.0, 1: 1.1}).above_zero
    assert paired({0: 1.0}, {1: 1.0}) is None
