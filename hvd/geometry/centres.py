"""Boxes as eight numbers beside the ground cell of their centre (CenterPoint, arXiv 2006.11275), and back.

Boxes are (N, 7) [x, y, z of the centre, length, width, height, yaw], LiDAR frame, metres and radians. A code is (N, 8)
[dx, dy from the middle of the cell, in cells; z in metres; log of length, width, height in metres; sin, cos of yaw].
"""

import math

import torch
from torch import Tensor

from hvd.geometry.grid import GridSpec

_LOG_SIZE = math.log(100)  # decoded edges lie between 1 cm and 100 m, whatever a network says


def encode(boxes: Tensor, cell: Tensor, grid: GridSpec) -> Tensor:
    """Codes (N, 8) of boxes (N, 7) with respect to the cells (N, 2) of `grid`; sizes must be positive."""
    offset = (boxes[:, :2] - _middle(cell, grid, boxes)) / boxes.new_tensor(grid.cell)
    yaw = boxes[:, 6:]
    return torch.cat([offset, boxes[:, 2:3], boxes[:, 3:6].log(), yaw.sin(), yaw.cos()], dim=1)


def decode(code: Tensor, cell: Tensor, grid: GridSpec) -> Tensor:
    """Boxes (N, 7) of codes (N, 8) at the cells (N, 2) of `grid`; yaw in [-pi, pi]."""
    centre = code[:, :2] * code.new_tensor(grid.cell) + _middle(cell, grid, code)
    size = code[:, 3:6].clamp(-_LOG_SIZE, _LOG_SIZE).exp()
    yaw = torch.atan2(code[:, 6:7], code[:, 7:8])
    return torch.cat([centre, code[:, 2:3], size, yaw], dim=1)


def _middle(cell: Tensor, grid: GridSpec, like: Tensor) -> Tensor:
    return (cell.to(like) + 0.5) * like.new_tensor(grid.cell) + like.new_tensor(grid.minimum)
