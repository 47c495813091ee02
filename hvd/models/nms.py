"""Rotated overlap on the ground, and non-maximum suppression by it, on any device.

Boxes are (N, 7) [x, y, z of the centre, length, width, height, yaw], LiDAR frame, metres and radians.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou


def ground_overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU (N, M) of the boxes' outlines on the ground (length along yaw, counter-clockwise from x)."""
    if not len(boxes) or not len(others):
        return boxes.new_zeros(len(boxes), len(others))
    middle = torch.cat([boxes[:, :2], others[:, :2]]).mean(dim=0)
    overlap: Tensor = box_iou(_outline(boxes, middle), _outline(others, middle), fmt="cxcywhr")
    return overlap


def _outline(boxes: Tensor, middle: Tensor) -> Tensor:
    """[x, y, length, width, angle]: torchvision's angles are degrees, and turn the other way (its y points down).

    Counted from the middle of all boxes, because torchvision computes in float32.
    """
    return torch.cat([boxes[:, :2] - middle, boxes[:, 3:5], -boxes[:, 6:7].rad2deg()], dim=1)


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
