"""Means and paired differences over seeds, with Student's t-interval."""

import math
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and the half width of its 95 % confidence interval; the width is NaN for one value."""

    mean: float
    half_width: float
    num: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is."""
        return self.mean - self.half_width > 0  # False for NaN


def interval(values: list[float]) -> Interval:
    """Mean and 95 % t-interval of independent values, at least one."""
    from scipy.special import stdtrit  # not scipy.stats, which takes seconds to import

    count = len(values)
    if count < 2:
        return Interval(fmean(values), math.nan, count)
    return Interval(fmean(values), float(stdtrit(count - 1, 0.975)) * stdev(values) / math.sqrt(count), count)


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """The interval of the differences at the seeds that both have; None without any."""
    differences = [values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())]
    return interval(differences) if differences else None
