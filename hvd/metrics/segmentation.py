"""Intersection over union as the benchmarks define it. Letters: N points, C classes."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.labels import IGNORED

Absent = Literal["skip", "zero"]  # what a class in neither truth nor prediction counts as


def confusion(truth: NDArray[Any], prediction: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Counts (C, C) of points by true class (row) and predicted class (column), without those of truth IGNORED.

    Args:
        truth: (N,) in 0..C-1 or IGNORED.
        prediction: (N,) in 0..C-1.

    Raises:
        ValueError: a counted point's class is outside of 0..C-1.
    """
    counted = truth != IGNORED
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} holds classes {values.min()}..{values.max()}, expected 0..{num_classes - 1}")
    flat = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class (C,); NaN for classes in neither truth nor prediction."""
    hit = confusion.diagonal().astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


def miou(confusion: NDArray[np.int64], absent: Absent = "skip") -> float:
    """Mean intersection over union, 0..1.

    Args:
        absent: classes in neither truth nor prediction are left out of the mean ("skip": nuScenes' devkit) or count
            as 0 ("zero": SemanticKITTI's evaluator).
    """
    values = iou(confusion)
    if absent == "zero":
        return float(np.nan_to_num(values).mean())
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
