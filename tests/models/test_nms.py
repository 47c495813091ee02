"""Rotated overlap against shapely, and suppression against a plain loop."""

import math

import pytest
import torch
from shapely.affinity import rotate, translate
from shapely.geometry import Polygon
from shapely.geometry import box as rectangle
from torch import Tensor
from torchvision.ops import box_iou

from hvd.models.nms import ground_overlap, suppress


def _boxes(count: int, seed: int) -> Tensor:
    """Cars about a few places 60 m away, so that many overlap."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 7, generator=generator)
    place = torch.randint(5, (count, 1), generator=generator) * 15.0
    boxes[:, :2] = place + boxes[:, :2] * 3
    boxes[:, 3:6] = boxes[:, 3:6] * torch.tensor([4.0, 1.5, 1]) + 0.5
    boxes[:, 6] = (boxes[:, 6] - 0.5) * 4 * math.pi
    return boxes


def _polygon(box: list[float]) -> Polygon:
    x, y, _, length, width, _, yaw = box
    outline = rectangle(-length / 2, -width / 2, length / 2, width / 2)
    return translate(rotate(outline, yaw, origin=(0, 0), use_radians=True), x, y)


def _overlap(one: list[float], other: list[float]) -> float:
    a, b = _polygon(one), _polygon(other)
    return a.intersection(b).area / a.union(b).area


def test_overlap_equals_shapely() -> None:
    boxes, others = _boxes(30, seed=0), _boxes(25, seed=1)
    expected = torch.tensor([[_overlap(a, b) for b in others.tolist()] for a in boxes.tolist()])
    assert (expected > 0.05).sum() > 50
    torch.testing.assert_close(ground_overlap(boxes, others), expected, rtol=1e-4, atol=1e-4)


def test_turns_are_counter_clockwise() -> None:
    lying = torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]])
    up_left, down_right = ([[1.0, y, 0, 4, 2, 1, math.pi / 6]] for y in (1.0, -1.0))
    for other in (up_left, down_right):
        assert ground_overlap(lying, torch.tensor(other)).item() == pytest.approx(_overlap(lying[0].tolist(), other[0]))


@pytest.mark.parametrize("max_overlap", [0.0, 0.1, 0.3])
def test_suppression_equals_a_loop(max_overlap: float) -> None:
    boxes, generator = _boxes(60, seed=2), torch.Generator().manual_seed(3)
    scores = (torch.rand(60, generator=generator) * 20).round() / 20  # with ties
    classes = torch.randint(2, (60,), generator=generator)
    stays: list[int] = []
    for row in sorted(range(60), key=lambda r: (-float(scores[r]), r)):
        rivals = [s for s in stays if classes[s] == classes[row]]
        if all(_overlap(boxes[row].tolist(), boxes[s].tolist()) <= max_overlap for s in rivals):
            stays.append(row)
    assert 5 < len(stays) < 58
    assert suppress(boxes, scores, classes, max_overlap).tolist() == stays


def test_nothing_stays_nothing() -> None:
    none = torch.zeros(0)
    assert suppress(torch.zeros(0, 7), none, none.long(), 0.1).tolist() == []
    assert ground_overlap(torch.zeros(0, 7), _boxes(3, seed=4)).shape == (0, 3)


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, math.pi])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
def test_boxes_that_nearly_coincide_overlap_whole(noise: float, turn: float) -> None:
    """For these, of all, suppression is there."""
    boxes = _boxes(200, seed=5)
    moved = boxes + noise * torch.randn(boxes.shape, generator=torch.Generator().manual_seed(6))
    moved[:, 6] += turn
    if turn == math.pi / 2:  # a quarter turn with length and width exchanged is the same outline
        moved[:, [3, 4]] = moved[:, [4, 3]]
    assert ground_overlap(boxes, moved).diagonal().min() > 0.99


def test_torchvision_errs_on_boxes_that_nearly_coincide() -> None:
    """Why `ground_overlap` is our own (docs/decisions/0014): once this fails, torchvision's can be taken."""
    boxes = _boxes(1500, seed=7)
    moved = boxes + 1e-6 * torch.randn(boxes.shape, generator=torch.Generator().manual_seed(8))
    turned = torch.tensor([1.0, 1.0, 1.0, 1.0, -180 / math.pi])  # degrees, and the other way about
    outlines = [values[:, [0, 1, 3, 4, 6]] * turned for values in (boxes, moved)]
    theirs = torch.cat([box_iou(a[None], b[None], fmt="cxcywhr")[0] for a, b in zip(*outlines, strict=True)])
    assert ground_overlap(boxes, moved).diagonal().min() > 0.99
    assert (theirs < 0.95).float().mean() > 0.1
