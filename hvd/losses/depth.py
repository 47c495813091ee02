"""Depth supervision by projected points alone: labels, loss and error, after BEVDepth (arXiv 2206.10092).

Letters: M pairs of a point and an image, N images, h x w feature cells, D depth bins.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hvd.models.teacher_config import DepthBins


def nearest_depth(
    uv: Tensor, depth_m: Tensor, image: Tensor, num_images: int, height: int, width: int, stride: int
) -> Tensor:
    """Smallest projected depth in each feature cell's patch of stride x stride pixels.

    Args:
        uv: (M, 2) pixels of the augmented image, the top-left pixel's centre at (0, 0); points outside take no part.
        depth_m: (M,) metres, of the unaugmented camera.
        image: (M,) which image, 0..num_images-1.
        num_images, height, width: N, h, w of the feature maps.
        stride: input pixels per feature cell.

    Returns:
        (N, h, w) float32 metres, 0 where no point falls.
    """
    column, row = torch.floor((uv + 0.5) / stride).long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell = ((image.long() * height + row) * width + column)[inside]
    nearest = torch.full((num_images * height * width,), torch.inf, device=uv.device)
    nearest = nearest.scatter_reduce(0, cell, depth_m[inside].float(), "amin")
    return torch.where(nearest.isinf(), 0.0, nearest).view(num_images, height, width)


def depth_labels(nearest_m: Tensor, bins: DepthBins) -> Tensor:
    """(N, h, w) metres, 0 = none -> (N, h, w) int64 bin, -1 where there is no depth or it lies outside the bins."""
    label = torch.floor((nearest_m - bins.lo_m) / bins.step_m).long()
    return torch.where((nearest_m > 0) & (label >= 0) & (label < bins.count), label, -1)


def depth_loss(logits: Tensor, labels: Tensor, kind: Literal["ce", "bce"]) -> Tensor:
    """Loss over the labelled cells, in float32; 0 if there are none.

    Args:
        logits: (N, D, h, w).
        labels: (N, h, w) bin, -1 = none.
        kind: "ce", the mean cross-entropy of a cell; "bce", the binary cross-entropy of the softmax against one-hot,
            mean over cells x bins (the paper's, weighted by 60).
    """
    with torch.autocast(logits.device.type, enabled=False):
        cells, target = _labelled(logits, labels)
        if len(cells) == 0:
            return cells.sum()
        if kind == "ce":
            return F.cross_entropy(cells, target)
        return F.binary_cross_entropy(cells.softmax(1), F.one_hot(target, cells.shape[1]).float())


def _labelled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The L labelled cells: logits (L, D) float32, bins (L,)."""
    image, row, column = torch.nonzero(labels >= 0, as_tuple=True)
    return logits[image, :, row, column].float(), labels[image, row, column]


def abs_rel(logits: Tensor, labels: Tensor, nearest_m: Tensor, bins: DepthBins) -> Tensor:
    """Mean of |expected depth - true depth| / true depth over the labelled cells; NaN if there are none.

    Args:
        logits: (N, D, h, w).
        labels: (N, h, w) bin, -1 = none.
        nearest_m: (N, h, w) metres, from `nearest_depth`.
        bins: what the D logits stand for.
    """
    cells, _ = _labelled(logits.detach(), labels)
    expected = cells.softmax(1) @ torch.tensor(bins.centres, device=cells.device)
    true = nearest_m[labels >= 0]
    return ((expected - true).abs() / true).mean()
