"""Box codes: by hand, and back."""

import math

import pytest
import torch

from hvd.geometry.centres import decode, encode
from hvd.geometry.grid import GridSpec

GRID = GridSpec((0.0, -40.0), (70.4, 40.0), (0.4, 0.8))


def test_a_code_by_hand() -> None:
    box = torch.tensor([[10.1, -3.0, -0.8, 4.0, 1.6, 1.5, math.pi / 6]])
    cell = torch.tensor([[25, 46]])  # whose middle is at (10.2, -2.8)
    expected = [-0.25, -0.25, -0.8, math.log(4), math.log(1.6), math.log(1.5), 0.5, math.sqrt(3) / 2]
    assert encode(box, cell, GRID)[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("away", [0, 3])
def test_decoding_undoes_encoding_at_any_cell(away: int) -> None:
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(500, 7, generator=generator, dtype=torch.float64)
    low = torch.tensor([0, -40, -3, 0.3, 0.3, 0.3, -math.pi], dtype=torch.float64)
    high = torch.tensor([70.4, 40, 1, 12, 3, 4, math.pi], dtype=torch.float64)
    boxes = low + share * (high - low)
    cell, inside = GRID.cells(boxes[:, :2])
    assert inside.all()
    code = encode(boxes, cell, GRID)
    assert (code[:, :2].abs() <= 0.5 + 1e-9).all()
    torch.testing.assert_close(decode(encode(boxes, cell + away, GRID), cell + away, GRID), boxes)


def test_decoded_sizes_and_yaws_are_finite_whatever_the_code() -> None:
    code = torch.full((2, 8), 1e4)
    code[1] = -1e4
    boxes = decode(code, torch.zeros(2, 2, dtype=torch.int64), GRID)
    assert boxes[0, 3:6].tolist() == pytest.approx([100] * 3)
    assert boxes[1, 3:6].tolist() == pytest.approx([0.01] * 3)
    assert boxes.isfinite().all()
