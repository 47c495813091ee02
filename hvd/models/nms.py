"""Rotated overlap on the ground, and non-maximum suppression by it, on any device.

Boxes are (N, 7) [x, y, z of the centre, length, width, height, yaw], LiDAR frame, metres and radians.
"""

import numpy as np
import torch
from torch import Tensor

from hvd.geometry.rectangles import OUTLINE, intersection_area


def ground_overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU (N, M) of the boxes' outlines on the ground (length along yaw, counter-clockwise from x).

    Exact, on the CPU: docs/decisions/0014.
    """
    first, second = (values[:, OUTLINE].detach().cpu().double().numpy() for values in (boxes, others))
    row, column = np.indices((len(first), len(second))).reshape(2, -1)
    shared = intersection_area(first[row], second[column])
    either = first[row, 2:4].prod(axis=1) + second[column, 2:4].prod(axis=1) - shared
    return torch.from_numpy((shared / either).reshape(len(first), len(second))).to(boxes)


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, max_overlap: float) -> Tensor:
    """Rows (n,) int64 of the boxes that stay, best first.

    A box goes if one of its class with a higher score stays that it overlaps by more than `max_overlap`; of equal
    scores the earlier row counts as higher. Takes O(N^2) time and memory: hand it a bounded number.

    Args:
        boxes: (N, 7).
        scores: (N,).
        classes: (N,).
        max_overlap: IoU on the ground.
    """
    order = scores.sort(descending=True, stable=True)[1]
    ranked = boxes[order]
    rivals = (ground_overlap(ranked, ranked) > max_overlap) & (classes[order] == classes[order][:, None])
    rivals = rivals.cpu()  # one row after another: there is nothing for a GPU to do
    stays = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):
        if stays[rank]:
            stays[rank + 1 :] &= ~rivals[rank, rank + 1 :]
    return order[stays.to(order.device)]
