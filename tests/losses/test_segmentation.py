"""Segmentation losses against hand-computed values and the definition of the Lovasz extension."""

import itertools

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.losses.checked import import_checked

losses = import_checked("hvd.losses.segmentation")
IGNORED = losses.IGNORED


def _logits(probability: list[list[float]]) -> Tensor:
    return torch.tensor(probability, dtype=torch.float64).log().float()


def test_wrong_shape_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.lovasz_softmax(torch.rand(4, 3), torch.zeros(5, dtype=torch.int64))


class TestCrossEntropy:
    def test_by_hand_without_the_ignored(self) -> None:
        logits = _logits([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
        labels = torch.tensor([0, 1, IGNORED], dtype=torch.uint8)
        expected = -(np.log(0.5) + np.log(0.75)) / 2
        assert float(losses.cross_entropy(logits, labels)) == pytest.approx(expected, rel=1e-5)

    def test_the_ignored_have_no_gradient(self) -> None:
        logits = torch.randn(3, 2, requires_grad=True)
        losses.cross_entropy(logits, torch.tensor([0, IGNORED, 1])).backward()
        assert not logits.grad[1].any()
        assert logits.grad[[0, 2]].all()


def _jaccard_loss(wrong: set[int], members: set[int]) -> float:
    """1 - IoU of a class with `members`, when exactly the points `wrong` are mispredicted (Berman et al., eq. 5)."""
    return len(wrong) / len(members | wrong) if members | wrong else 0.0


def _lovasz_extension(errors: np.ndarray, members: set[int]) -> float:
    """Definition (eq. 8): sum over points from worst to best of error x growth of the set function."""
    total, wrong, before = 0.0, set(), 0.0
    for point in sorted(range(len(errors)), key=lambda i: -errors[i]):
        wrong.add(point)
        after = _jaccard_loss(wrong, members)
        total += errors[point] * (after - before)
        before = after
    return total


class TestLovaszSoftmax:
    def test_by_hand(self) -> None:
        """Three points, classes (0, 0, 1), p(class 0) = 0.8, 0.4, 0.3: both classes' errors are 0.2, 0.6, 0.3.

        Class 0: wrong are point 1 (a member), then also 2 (not one), then also 0; Jaccard losses 1/2, 2/3, 1.
        So 0.6 / 2 + 0.3 (2/3 - 1/2) + 0.2 (1 - 2/3) = 5/12.
        Class 1: point 1 (not a member), then also 2 (the member), then also 0; 1/2, 1, 1. So 0.6 / 2 + 0.3 / 2 = 0.45.
        """
        logits = _logits([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
        loss = losses.lovasz_softmax(logits, torch.tensor([0, 0, 1]))
        assert float(loss) == pytest.approx((5 / 12 + 0.45) / 2, rel=1e-5)

    @pytest.mark.parametrize("seed", range(5))
    def test_equals_the_set_functions_extension(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(12, 5, generator=generator) * 2
        labels = torch.randint(0, 4, (12,), generator=generator)  # class 4 is absent
        probability = logits.softmax(dim=1).numpy()
        expected = []
        for number in sorted(set(labels.tolist())):
            truth = (labels == number).numpy()
            members = set(np.flatnonzero(truth).tolist())
            expected.append(_lovasz_extension(np.abs(truth - probability[:, number]), members))
        assert float(losses.lovasz_softmax(logits, labels)) == pytest.approx(np.mean(expected), rel=1e-5)

    def test_hard_predictions_give_one_minus_iou(self) -> None:
        """At the corners of the cube the extension is the set function itself: all 16 predictions of 4 points."""
        labels = torch.tensor([0, 0, 1, 0])
        for prediction in itertools.product((0, 1), repeat=4):
            predicted = torch.tensor(prediction)
            iou = [
                float(((predicted == c) & (labels == c)).sum() / ((predicted == c) | (labels == c)).sum())
                for c in (0, 1)
            ]
            logits = torch.nn.functional.one_hot(predicted, 2) * 100.0
            assert float(losses.lovasz_softmax(logits, labels)) == pytest.approx(1 - np.mean(iou), abs=1e-6)

    def test_ignored_points_take_no_part(self) -> None:
        logits, labels = torch.randn(9, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0])
        more = torch.cat([torch.randn(4, 3), logits])
        with_ignored = torch.cat([torch.full((4,), IGNORED), labels])
        assert torch.equal(losses.lovasz_softmax(more, with_ignored), losses.lovasz_softmax(logits, labels))

    def test_gradient(self) -> None:
        logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([0, 1, 2, 0, IGNORED, 1])
        loss = losses.lovasz_softmax(logits, labels)
        (gradient,) = torch.autograd.grad(loss, logits)
        direction = torch.randn(6, 3, dtype=torch.float64)
        step = 1e-3  # the loss is computed in float32
        ahead, behind = (losses.lovasz_softmax(logits + s * step * direction, labels) for s in (1, -1))
        expected = (ahead - behind).item() / (2 * step)
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.lovasz_softmax])
def test_all_ignored_is_zero_with_a_gradient(loss: object) -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    value = loss(logits, torch.full((3,), IGNORED))
    value.backward()
    assert value.item() == 0.0
    assert not logits.grad.any()
