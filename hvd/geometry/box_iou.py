"""Overlap of 3D boxes on tensors, for training and for non-maximum suppression. N, M boxes.

Boxes are `boxes_lidar` of `hvd.geometry.boxes`: (N, 7) x y z of the centre, length, width, height, yaw.
"""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou


def bev_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union on the ground, (N, M), of boxes (N, 7) and (M, 7)."""
    if not len(first) or not len(second):
        return first.new_zeros(len(first), len(second))
    origin = first[:, :2].double().mean(dim=0)  # float32 has too few digits for a map's coordinates
    overlap: Tensor = box_iou(_image_style(first, origin), _image_style(second, origin), fmt="cxcywhr")
    return overlap


def _image_style(boxes: Tensor, origin: Tensor) -> Tensor:
    """Boxes (N, 7) as torchvision's centre, width, height, angle: degrees, on a plane whose y axis points down."""
    centre = (boxes[:, :2].double() - origin).to(boxes.dtype)
    return torch.cat([centre, boxes[:, 3:5], boxes[:, 6:7] * (-180.0 / math.pi)], dim=1)


def iou_3d(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of volumes, (N, M), of boxes (N, 7) and (M, 7)."""
    on_ground = bev_iou(first, second)
    areas = (first[:, 3] * first[:, 4])[:, None] + (second[:, 3] * second[:, 4])[None]  # (N, M)
    shared = on_ground / (1 + on_ground) * areas  # i = s / (a - s) solved for the area s
    low = torch.maximum(_bottom(first)[:, None], _bottom(second)[None])
    high = torch.minimum(_top(first)[:, None], _top(second)[None])
    volumes = first[:, 3:6].prod(dim=1)[:, None] + second[:, 3:6].prod(dim=1)[None]
    common = shared * (high - low).clamp(min=0)
    return common / (volumes - common)


def _bottom(boxes: Tensor) -> Tensor:
    return boxes[:, 2] - boxes[:, 5] / 2


def _top(boxes: Tensor) -> Tensor:
    return boxes[:, 2] + boxes[:, 5] / 2
