"""Contrastive losses against hand-computed values and plain loops; shapes are checked on every call."""

import math
from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.losses.checked import import_checked

losses = import_checked("hvd.losses.contrastive")


def _unit(*shape: int, seed: int = 0) -> Tensor:
    """Random features of unit length along dim 1."""
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_wrong_shape_raises() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.info_nce(_unit(4, 3), _unit(5, 3))
    with pytest.raises(jaxtyping.TypeCheckError):
        losses.pool_pixels(torch.rand(2, 3, 4, 5), torch.zeros(2, 5, 4, dtype=torch.int64), 7)


class TestInfoNce:
    def test_by_hand(self) -> None:
        """Two pairs at right angles, temperature 1/2: logits [[2, 0], [0, 2]] and so ln(1 + e^-2) each."""
        match = losses.info_nce(torch.eye(2), torch.eye(2), temperature=0.5)
        assert float(match.loss) == pytest.approx(math.log(1 + math.exp(-2)))
        assert (float(match.top1), match.count) == (1.0, 2)

    def test_by_hand_swapped(self) -> None:
        """Each student equals the other's teacher: ln(1 + e^2), and no match."""
        match = losses.info_nce(torch.eye(2), torch.eye(2).flip(0), temperature=0.5)
        assert float(match.loss) == pytest.approx(math.log(1 + math.exp(2)))
        assert float(match.top1) == 0.0

    def test_student_chooses_among_teachers(self) -> None:
        """Not symmetric: the sum in the denominator runs over teachers."""
        student, teacher = _unit(6, 8, seed=1), _unit(6, 8, seed=2)
        similarity = np.exp(student.numpy().astype(np.float64) @ teacher.numpy().T / 0.07)
        expected = -np.log(similarity.diagonal() / similarity.sum(axis=1)).mean()
        assert float(losses.info_nce(student, teacher).loss) == pytest.approx(expected, rel=1e-5)

    def test_equal_teachers_give_chance(self) -> None:
        match = losses.info_nce(_unit(50, 8), _unit(1, 8).repeat(50, 1))
        assert float(match.loss) == pytest.approx(math.log(50), rel=1e-5)

    def test_gradient(self) -> None:
        student, teacher = (_unit(4, 3, seed=s).double().requires_grad_() for s in (1, 2))
        for weight in (None, torch.tensor([1.0, 0.0, 2.5, 1.0]).double()):
            assert torch.autograd.gradcheck(
                lambda k, q, weight=weight: losses.info_nce(k, q, weight=weight).loss, (student, teacher)
            )

    @pytest.mark.parametrize("weighted", [False, True])
    def test_blocks_equal_the_whole_matrix(self, weighted: bool) -> None:
        """More rows than a block holds, and no multiple of them: against autograd through all similarities at once."""
        ours, whole = ([_unit(300, 8, seed=s).double().requires_grad_() for s in (1, 2)] for _ in range(2))
        weight = torch.arange(300).double() if weighted else None
        match = losses.info_nce(*ours, weight=weight)
        logits = whole[0] @ whole[1].T / losses.TEMPERATURE
        rows = F.cross_entropy(logits, torch.arange(300), reduction="none")
        expected = rows.mean() if weight is None else rows @ weight / weight.sum()
        torch.testing.assert_close(match.loss, expected)
        assert float(match.top1) == pytest.approx(float((logits.argmax(1) == torch.arange(300)).double().mean()))
        (3 * match.loss).backward()
        (3 * expected).backward()
        torch.testing.assert_close([x.grad for x in ours], [x.grad for x in whole])

    def test_autocast_changes_nothing(self) -> None:
        student, teacher = _unit(6, 8, seed=1), _unit(6, 8, seed=2)
        expected = losses.info_nce(student, teacher).loss
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(losses.info_nce(student, teacher).loss, expected)

    def test_nothing_matched_is_zero_with_a_gradient(self) -> None:
        student = torch.zeros(0, 3, requires_grad=True)
        match = losses.info_nce(student, torch.zeros(0, 3))
        match.loss.backward()
        assert (match.loss.item(), match.count) == (0.0, 0)


class TestPooling:
    def test_points_equal_a_loop(self) -> None:
        features = torch.randn(40, 5)
        segment = torch.randint(-1, 6, (40,))
        segment[segment == 3] = 2  # segment 3 stays empty
        means, count = losses.pool_points(features, segment, 6)
        for number in range(6):
            rows = features[segment == number]
            assert count[number] == len(rows)
            torch.testing.assert_close(means[number], rows.mean(dim=0) if len(rows) else torch.zeros(5))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
    def test_pixels_equal_a_loop(self, dtype: torch.dtype) -> None:
        features = torch.randn(3, 5, 6, 7)
        segment = torch.randint(0, 4, (3, 6, 7))
        segment[1][segment[1] == 2] = 0  # superpixel 2 of image 1 stays empty
        means, count = losses.pool_pixels(features, segment.to(dtype), 4)
        assert means.shape == (12, 5)
        for image in range(3):
            for number in range(4):
                pixels = features[image][:, segment[image] == number]
                assert count[4 * image + number] == pixels.shape[1]
                expected = pixels.mean(dim=1) if pixels.shape[1] else torch.zeros(5)
                torch.testing.assert_close(means[4 * image + number], expected)

    def test_gradients(self) -> None:
        points = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
        segment = torch.tensor([0, 2, 2, -1, 0, 2])
        assert torch.autograd.gradcheck(lambda p: losses.pool_points(p, segment, 4)[0], points)
        pixels = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
        superpixel = torch.tensor([[[0, 0, 1], [1, 1, 1]], [[2, 0, 0], [2, 2, 0]]])
        assert torch.autograd.gradcheck(lambda p: losses.pool_pixels(p, superpixel, 3)[0], pixels)


class TestSegmentOfPairs:
    SEGMENT = torch.arange(2 * 3 * 4).reshape(2, 3, 4) % 12

    @pytest.mark.parametrize(
        ("uv", "image", "expected"),
        [
            ((0.0, 0.0), 0, 0),
            ((1.4, 0.0), 0, 1),  # nearest pixel: centres are whole numbers
            ((1.6, 2.4), 1, 12 + 2 * 4 + 2),
            ((-0.5, -0.5), 1, 12),
            ((3.49, 2.49), 0, 11),
            ((-0.51, 0.0), 0, -1),
            ((3.5, 0.0), 0, -1),
            ((0.0, 2.5), 1, -1),
        ],
    )
    def test_by_hand(self, uv: tuple[float, float], image: int, expected: int) -> None:
        found = losses.segment_of_pairs(torch.tensor([uv]), torch.tensor([image]), self.SEGMENT, 12)
        assert found.tolist() == [expected]


class TestSuperpixelLoss:
    def test_matches_means_of_shared_superpixels_alone(self) -> None:
        """Superpixel 1 has no pixel and 2 no point: rows 0 and 3 remain, and normalised means are compared."""
        points = _unit(5, 4, seed=1)
        point_segment = torch.tensor([0, 3, 0, 1, -1])
        pixels = _unit(1, 4, 2, 3, seed=2)
        superpixel = torch.tensor([[[0, 0, 2], [3, 3, 3]]])
        match = losses.superpixel_loss(points, point_segment, pixels, superpixel, 4)
        student = torch.stack([points[[0, 2]].mean(dim=0), points[1]])
        teacher = torch.stack([pixels[0, :, 0, :2].mean(dim=1), pixels[0, :, 1].mean(dim=1)])
        expected = losses.info_nce(F.normalize(student, dim=1), F.normalize(teacher, dim=1))
        assert match.count == 2
        torch.testing.assert_close(match.loss, expected.loss)

    def test_reaches_points_and_pixels(self) -> None:
        points, pixels = _unit(9, 4).requires_grad_(), _unit(2, 4, 3, 3).requires_grad_()
        superpixel = torch.arange(9).reshape(3, 3).repeat(2, 1, 1)
        losses.superpixel_loss(points, torch.arange(9), pixels, superpixel, 9).loss.backward()
        assert (points.grad.abs().sum(dim=1) > 0).all()
        assert (pixels.grad[0].abs().sum(dim=0) > 0).all()
        assert not pixels.grad[1].any()  # no point fell in the second image


class TestPointPixelLoss:
    def test_all_pairs_within_the_limit(self) -> None:
        points, pixels = _unit(3, 4, seed=1), _unit(2, 4, 5, 6, seed=2)
        uv = torch.tensor([[2.2, 3.9], [9.0, 0.0], [5.0, 0.4]])  # the second lies outside
        image = torch.tensor([1, 0, 0], dtype=torch.int32)
        match = losses.point_pixel_loss(points, uv, image, pixels, 10, _generator())
        teacher = torch.stack([pixels[1, :, 4, 2], pixels[0, :, 0, 5]])
        torch.testing.assert_close(match.loss, losses.info_nce(points[[0, 2]], teacher).loss)

    def test_draws_up_to_the_limit(self) -> None:
        pixels = _unit(1, 4, 8, 8)
        uv = torch.rand(50, 2) * 7
        image = torch.zeros(50, dtype=torch.int64)
        first, again = (losses.point_pixel_loss(_unit(50, 4), uv, image, pixels, 20, _generator()) for _ in "ab")
        assert first.count == 20
        assert torch.equal(first.loss, again.loss)


class TestCellLoss:
    def test_matches_cells_that_both_have(self) -> None:
        """Batch of 2, 3 cells each; the student has 0, 2, 4 and rays reach 0, 1, 4, of any length."""
        student = _unit(3, 4, seed=1)
        image = torch.randn(2, 3, 4) * 5
        reached = torch.tensor([[True, True, False], [False, True, False]])
        match = losses.cell_loss(student, torch.tensor([4, 0, 2]), None, image, reached, 10, _generator())
        expected = losses.info_nce(student[:2], F.normalize(torch.stack([image[1, 1], image[0, 0]]), dim=1))
        assert match.count == 2
        torch.testing.assert_close(match.loss, expected.loss)

    def test_a_cell_counts_by_its_weight_and_not_at_all_without(self) -> None:
        student, image, everywhere = _unit(3, 4, seed=1), torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
        weight, cell = torch.tensor([1.0, 0.0, 3.0]), torch.arange(3)
        match = losses.cell_loss(student, cell, weight, image, everywhere, 10, _generator())
        kept = torch.tensor([0, 2])
        logits = student[kept] @ F.normalize(image[0, kept], dim=1).T / losses.TEMPERATURE
        rows = F.cross_entropy(logits, torch.arange(2), reduction="none")
        assert match.count == 2
        torch.testing.assert_close(match.loss, (rows[0] + 3 * rows[1]) / 4)

    def test_draws_up_to_the_limit(self) -> None:
        everywhere = torch.ones(1, 30, dtype=torch.bool)
        match = losses.cell_loss(
            _unit(30, 4), torch.arange(30), None, torch.randn(1, 30, 4), everywhere, 7, _generator()
        )
        assert match.count == 7


@pytest.mark.parametrize(("count", "limit", "size"), [(5, 9, 5), (9, 5, 5), (0, 3, 0)])
def test_draw_is_without_replacement(count: int, limit: int, size: int) -> None:
    drawn = losses.draw(count, limit, _generator())
    assert len(drawn) == len(set(drawn.tolist())) == size
    assert set(drawn.tolist()) <= set(range(count))


def test_draws_are_uniform() -> None:
    generator = _generator()
    hits = np.bincount(np.concatenate([losses.draw(10, 3, generator).numpy() for _ in range(2000)]), minlength=10)
    assert np.abs(hits / 2000 - 0.3).max() < 0.05


@pytest.mark.parametrize(
    "empty",
    [
        lambda: losses.cell_loss(
            _unit(2, 4),
            torch.arange(2),
            None,
            torch.ones(1, 2, 4),
            torch.zeros(1, 2, dtype=torch.bool),
            5,
            _generator(),
        ),
        lambda: losses.superpixel_loss(
            _unit(2, 4), torch.tensor([-1, -1]), _unit(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64), 1
        ),
    ],
)
def test_no_match_is_zero(empty: Callable[[], object]) -> None:
    match = empty()
    assert (match.loss.item(), match.count) == (0.0, 0)
