"""Depth labels against a loop, the losses against numbers worked out by hand."""

import math

import pytest
import torch

from hvd.losses.depth import abs_rel, depth_labels, depth_loss, nearest_depth
from hvd.models.teacher_config import DepthBins

BINS = DepthBins(lo_m=1.0, hi_m=5.0, step_m=1.0)


def test_nearest_depth_equals_a_loop() -> None:
    images, height, width, stride = 3, 5, 7, 4
    draw = torch.Generator().manual_seed(0)
    uv = torch.rand(400, 2, generator=draw) * torch.tensor([40.0, 30.0]) - 6  # some outside on every side
    depth = torch.rand(400, generator=draw) * 50 + 1
    image = torch.randint(images, (400,), generator=draw)

    expected = torch.zeros(images, height, width)
    for (u, v), d, k in zip(uv.tolist(), depth.tolist(), image.tolist(), strict=True):
        j, i = math.floor((u + 0.5) / stride), math.floor((v + 0.5) / stride)
        if 0 <= i < height and 0 <= j < width:
            old = expected[k, i, j]
            expected[k, i, j] = d if old == 0 else min(old, d)

    assert torch.equal(nearest_depth(uv, depth, image, images, height, width, stride), expected)
    assert (expected > 0).any() and (expected == 0).any()


def test_a_patch_reaches_from_half_a_pixel_before_its_first_centre() -> None:
    uv = torch.tensor([[-0.5, 0.0], [3.49, 0.0], [3.5, 0.0], [-0.51, 0.0], [7.5, 0.0], [0.0, 3.5]])
    for (u, v), cells in zip(uv, [[0], [0], [1], [], [], []], strict=True):
        depth = nearest_depth(torch.stack([u, v])[None], torch.tensor([9.0]), torch.tensor([0]), 1, 1, 2, 4)
        assert depth.flatten().nonzero().flatten().tolist() == cells


def test_no_pairs_no_depth() -> None:
    empty = nearest_depth(torch.empty(0, 2), torch.empty(0), torch.empty(0, dtype=torch.long), 2, 3, 4, 4)
    assert empty.shape == (2, 3, 4) and not empty.any()


def test_labels_are_half_open_bins() -> None:
    nearest = torch.tensor([[[0.0, 0.5, 1.0, 1.999, 2.0, 4.99, 5.0, 80.0]]])
    assert depth_labels(nearest, BINS).tolist() == [[[-1, -1, 0, 0, 1, 3, -1, -1]]]


def test_no_depth_is_no_label_even_when_the_bins_start_at_zero() -> None:
    bins = DepthBins(lo_m=0.0, hi_m=2.0, step_m=1.0)
    assert depth_labels(torch.tensor([[[0.0, 0.3]]]), bins).tolist() == [[[-1, 0]]]


def two_cells() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, 2, 1, 3) whose softmaxes are (0.8, 0.2), (0.4, 0.6) and (0.5, 0.5); the third cell has no label."""
    logits = torch.log(torch.tensor([[0.8, 0.4, 0.5], [0.2, 0.6, 0.5]])).view(1, 2, 1, 3)
    return logits, torch.tensor([[[0, 0, -1]]])


def test_cross_entropy_by_hand() -> None:
    loss = depth_loss(*two_cells(), "ce")
    assert loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2, abs=1e-6)


def test_binary_cross_entropy_by_hand() -> None:
    loss = depth_loss(*two_cells(), "bce")
    by_hand = -(math.log(0.8) + math.log(1 - 0.2) + math.log(0.4) + math.log(1 - 0.6)) / 4
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_gradient_equals_finite_differences(kind: str) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, generator=draw, requires_grad=True)
    labels = torch.randint(-1, 4, (2, 2, 3), generator=draw)
    depth_loss(logits, labels, kind).backward()
    for flat in (0, 7, 20, 47):
        step = torch.zeros(48)
        step[flat] = 1e-2
        high, low = (depth_loss(logits.detach() + s * step.view_as(logits), labels, kind) for s in (1, -1))
        assert logits.grad.flatten()[flat].item() == pytest.approx((high - low).item() / 2e-2, abs=2e-4)


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_sure_and_wrong_stays_finite(kind: str) -> None:
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    loss = depth_loss(logits, torch.tensor([[[1]]]), kind)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_no_label_is_no_loss_but_a_graph(kind: str) -> None:
    logits = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = depth_loss(logits, torch.full((1, 2, 2), -1), kind)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_float32_under_autocast(kind: str) -> None:
    logits, labels = two_cells()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = depth_loss(logits.bfloat16(), labels, kind)
    assert mixed.dtype == torch.float32
    assert mixed.item() == depth_loss(logits.bfloat16().float(), labels, kind).item()


def test_abs_rel_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 1e-9], [0.5, 1e-9], [1e-9, 1e-9], [1e-9, 1.0]])).view(1, 4, 1, 2)
    nearest = torch.tensor([[[2.5, 4.5]]])
    error = abs_rel(logits, depth_labels(nearest, BINS), nearest, BINS)  # expected depths: (1.5 + 2.5) / 2 and 4.5
    assert error.item() == pytest.approx((0.5 / 2.5 + 0.0) / 2, abs=1e-6)
