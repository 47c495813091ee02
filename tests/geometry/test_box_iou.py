"""Overlap of boxes on tensors, against shapely and by hand."""

import math

import numpy as np
import pytest
import torch
from shapely.geometry import Polygon

from hvd.geometry.box_iou import bev_iou, iou_3d
from hvd.geometry.boxes import corners


def random_boxes(rng: np.random.Generator, count: int, origin: float) -> np.ndarray:
    place = rng.normal(0, 1.5, (count, 3)) * [1, 1, 0.5] + [origin, -origin, 0]
    return np.concatenate([place, rng.uniform(0.5, 5, (count, 3)), rng.uniform(-4, 4, (count, 1))], axis=1)


def oracle(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bev, solid = np.zeros((2, len(first), len(second)))
    outlines = [[Polygon(box[:4, :2]) for box in corners(boxes)] for boxes in (first, second)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            p, q = outlines[0][i], outlines[1][j]
            shared = p.intersection(q).area
            bev[i, j] = shared / (p.area + q.area - shared)
            tall = min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2)
            shared *= max(tall, 0)
            solid[i, j] = shared / (p.area * a[5] + q.area * b[5] - shared)
    return bev, solid


@pytest.mark.parametrize(
    ("dtype", "origin", "tolerance"), [("float64", 0, 1e-6), ("float32", 0, 2e-4), ("float64", 1e4, 1e-6)]
)
def test_equals_shapely(dtype: str, origin: float, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    first, second = random_boxes(rng, 40, origin), random_boxes(rng, 30, origin)
    tensors = [torch.from_numpy(boxes).to(getattr(torch, dtype)) for boxes in (first, second)]
    bev, solid = oracle(first, second)
    assert (bev > 0.1).sum() > 100 and (solid > 0.1).sum() > 30
    np.testing.assert_allclose(bev_iou(*tensors), bev, atol=tolerance)
    np.testing.assert_allclose(iou_3d(*tensors), solid, atol=tolerance)


def test_by_hand() -> None:
    """A box and itself, turned by half a turn, raised by half its height; and no box at all."""
    box = torch.tensor([[0.0, 0, 0, 4, 1, 2, 0.3]])
    same, turned, raised = box.clone(), box.clone(), box.clone()
    turned[0, 6] += math.pi
    raised[0, 2] += 1
    assert bev_iou(box, same).item() == pytest.approx(1, abs=1e-5)
    assert iou_3d(box, turned).item() == pytest.approx(1, abs=1e-5)
    assert iou_3d(box, raised).item() == pytest.approx(1 / 3, abs=1e-5)
    assert bev_iou(box, box[:0]).shape == (1, 0)
    assert iou_3d(box[:0], box).shape == (0, 1)
