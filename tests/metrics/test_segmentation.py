"""Intersection over union against hand-computed values and the nuScenes devkit's."""

import numpy as np
import pytest

from hvd.datasets.labels import IGNORED
from hvd.metrics.segmentation import confusion, iou, miou


def test_confusion_by_hand() -> None:
    truth = np.array([0, 0, 1, 2, IGNORED, 1], dtype=np.uint8)
    prediction = np.array([0, 1, 1, 0, 2, 1], dtype=np.uint8)
    assert confusion(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_iou_by_hand() -> None:
    """Class 0: 1 of 3; class 1: 2 of 3; class 2: never hit; class 3: nowhere."""
    counts = np.array([[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(iou(counts), [1 / 3, 2 / 3, 0, np.nan])
    assert miou(counts) == pytest.approx(1 / 3)
    assert miou(counts, absent="zero") == pytest.approx(1 / 4)


def test_nothing_counted_is_zero() -> None:
    nothing = np.zeros((3, 3), dtype=np.int64)
    assert np.isnan(iou(nothing)).all()
    assert miou(nothing) == miou(nothing, absent="zero") == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_devkit(seed: int) -> None:
    """The devkit numbers classes from 1 and ignores 0."""
    from nuscenes.eval.lidarseg.utils import ConfusionMatrix  # noqa: TID251

    rng = np.random.default_rng(seed)
    official = ConfusionMatrix(num_classes=17, ignore_idx=0)
    ours = np.zeros((16, 16), dtype=np.int64)
    for _ in range(3):
        truth = rng.integers(0, 15, 5000)  # 15 is never true, 16 neither true
        prediction = rng.integers(1, 16, 5000)  # nor predicted
        official.update(truth, prediction)
        ours += confusion(np.where(truth == 0, IGNORED, truth - 1).astype(np.uint8), prediction - 1, 16)
    np.testing.assert_array_equal(ours, official.global_cm[1:, 1:])
    np.testing.assert_allclose(iou(ours), official.get_per_class_iou()[1:], rtol=1e-6)
    assert np.isnan(iou(ours)).sum() == 1
    assert miou(ours) == pytest.approx(official.get_mean_iou())


@pytest.mark.parametrize(("truth", "prediction", "named"), [([3], [0], "truth"), ([0], [3], "prediction")])
def test_classes_out_of_range_are_refused(truth: list[int], prediction: list[int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        confusion(np.array(truth), np.array(prediction), 3)
