"""Detection targets and losses against hand-computed values, plain loops and finite differences."""

import math

import jaxtyping
import pytest
import torch

from hvd.geometry.grid import GridSpec
from hvd.models.detector_config import DetectionLossConfig
from tests.losses.checked import import_checked

losses = import_checked("hvd.losses.detection")
GRID = GridSpec((0.0, -4.0), (8.0, 4.0), (0.5, 1.0))  # 16 x 8 cells
CONFIG = DetectionLossConfig(min_overlap=0.5, min_radius=1)


class TestGaussianRadius:
    def test_by_hand(self) -> None:
        # (9 - r)(4 - r) = 2/3 * 36 = 24 -> r^2 - 13 r + 12 = 0 -> r = 1 with o = 0.5
        radius = losses.gaussian_radius(torch.tensor([9.0]), torch.tensor([4.0]), 0.5)
        assert radius.item() == pytest.approx(1.0, abs=1e-6)

    @pytest.mark.parametrize("overlap", [0.1, 0.3, 0.7])
    def test_a_box_shifted_by_it_overlaps_just_so(self, overlap: float) -> None:
        generator = torch.Generator().manual_seed(0)
        length, width = (torch.rand(50, generator=generator, dtype=torch.float64) * 10 + 0.1 for _ in range(2))
        radius = losses.gaussian_radius(length, width, overlap)
        assert (radius > 0).all() and (radius < torch.minimum(length, width)).all()
        shared = (length - radius) * (width - radius)
        torch.testing.assert_close(shared / (2 * length * width - shared), torch.full_like(length, overlap))


def test_heat_map_equals_a_loop() -> None:
    cells, classes, radii = [[3, 4], [5, 5], [15, 0], [3, 5]], [1, 1, 0, 2], [2.0, 3.0, 4.0, 1.0]
    heat = losses.heat_map(torch.tensor(cells), torch.tensor(classes), torch.tensor(radii), GRID.shape, 4)
    expected = torch.zeros(4, *GRID.shape)
    for (cx, cy), k, r in zip(cells, classes, radii, strict=True):
        for x in range(16):
            for y in range(8):
                if abs(x - cx) <= r and abs(y - cy) <= r:
                    value = math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * ((2 * r + 1) / 6) ** 2))
                    expected[k, x, y] = max(float(expected[k, x, y]), value)
    torch.testing.assert_close(heat, expected)
    assert (heat == 1).sum() == 4
    assert not heat[3].any()


class TestTargets:
    def test_objects_off_the_grid_have_none(self) -> None:
        one = torch.tensor([[1.1, 0.2, -1, 4, 2, 1.5, 0.3], [9.0, 0, 0, 4, 2, 1.5, 0]])
        other = torch.tensor([[7.9, -3.9, -1, 0.8, 0.6, 1.7, -2]])
        targets = losses.centre_targets([one, other], [torch.tensor([0, 1]), torch.tensor([1])], GRID, 2, CONFIG)
        assert targets.cell.tolist() == [2 * 8 + 4, 16 * 8 + 15 * 8]
        assert targets.heat.shape == (2, 2, 16, 8)
        assert (targets.heat == 1).nonzero().tolist() == [[0, 0, 2, 4], [1, 1, 15, 0]]
        expected = [(1.1 - 1.25) / 0.5, 0.2 - 0.5, -1, math.log(4), math.log(2), math.log(1.5)]
        assert targets.code[0].tolist() == pytest.approx([*expected, math.sin(0.3), math.cos(0.3)], abs=1e-5)

    def test_the_radius_is_rounded_down_and_at_least_the_smallest(self) -> None:
        boxes = torch.tensor([[4.2, 0.5, 0, 4.5, 4, 1, 0], [1.2, 0.5, 0, 0.4, 0.4, 1, 0]])  # 9 x 4 and 0.8 x 0.4 cells
        for box, radius in zip(boxes, (1, 1), strict=True):
            heat = losses.centre_targets([box[None]], [torch.tensor([0])], GRID, 1, CONFIG).heat
            assert (heat > 0).sum() == (2 * radius + 1) ** 2
        wide = DetectionLossConfig(min_overlap=0.1, min_radius=1)  # 13 r = r^2 + 36 * 0.9 / 1.1: r = 2.92
        assert (losses.centre_targets([boxes[:1]], [torch.tensor([0])], GRID, 1, wide).heat > 0).sum() == 25

    def test_no_object_at_all(self) -> None:
        nothing = [torch.zeros(0, 7)], [torch.zeros(0, dtype=torch.int64)]
        targets = losses.centre_targets(*nothing, GRID, 2, CONFIG)
        assert not targets.heat.any() and targets.code.shape == (0, 8)
        code_map = torch.randn(1, 8, 16, 8, requires_grad=True)
        loss = losses.box_loss(code_map, targets.cell, targets.code)
        loss.backward()
        assert loss.item() == 0 and not code_map.grad.any()


class TestHeatLoss:
    def test_by_hand(self) -> None:
        heat = torch.tensor([[[[1.0, 0.5, 0.0]]]])
        p = [0.8, 0.4, 0.1]
        logits = torch.tensor(p).logit().view_as(heat)
        expected = -(0.2**2 * math.log(0.8) + 0.5**4 * 0.4**2 * math.log(0.6) + 0.1**2 * math.log(0.9))
        assert losses.heat_loss(logits, heat).item() == pytest.approx(expected, rel=1e-5)
        twice = losses.heat_loss(logits.repeat(2, 1, 1, 1), heat.repeat(2, 1, 1, 1))
        assert twice.item() == pytest.approx(expected, rel=1e-5)  # per centre

    def test_extreme_logits_stay_finite(self) -> None:
        logits = torch.tensor([[[[-200.0, 200.0]]]], requires_grad=True)
        loss = losses.heat_loss(logits, torch.tensor([[[[1.0, 0.0]]]]))
        loss.backward()
        assert loss.item() == pytest.approx(400)
        assert logits.grad.isfinite().all()

    def test_gradient_equals_finite_differences(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(1, 2, 3, 4, generator=generator, requires_grad=True)
        heat = torch.rand(1, 2, 3, 4, generator=generator)
        heat[0, 0, 1, 1] = heat[0, 1, 2, 3] = 1
        (gradient,) = torch.autograd.grad(losses.heat_loss(logits, heat), logits)
        direction = torch.randn(logits.shape, generator=generator)
        step = 1e-2
        ahead, behind = (losses.heat_loss(logits + s * step * direction, heat) for s in (1, -1))
        expected = (ahead - behind).item() / (2 * step)
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-3)


def test_box_loss_by_hand_and_its_gradient() -> None:
    code_map = torch.zeros(2, 8, 16, 8, requires_grad=True)
    code = torch.zeros(2, 8)
    code[0, 0], code[1, 6] = 0.5, -2.0
    cell = torch.tensor([3 * 8 + 1, 16 * 8 + 8 * 8 + 7])
    loss = losses.box_loss(code_map, cell, code)
    loss.backward()
    assert loss.item() == pytest.approx(1.25)
    assert code_map.grad[0, 0, 3, 1] == -0.5 and code_map.grad[1, 6, 8, 7] == 0.5
    assert code_map.grad.count_nonzero() == 2


def test_wrong_shape_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.heat_loss(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 4, 3))
