"""A head that finds objects by their centres (CenterPoint, arXiv 2006.11275), and the boxes its maps stand for.

Letters: B samples, K classes, C channels, X x Y ground cells, N boxes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvd.geometry.centres import decode
from hvd.geometry.grid import GridSpec
from hvd.models.bev_backbone import conv_norm
from hvd.models.detector_config import CentreHeadConfig, DecodeConfig
from hvd.models.nms import suppress

_BRANCHES = {"offset": 2, "z": 1, "size": 3, "yaw": 2}  # end to end, they make a code of hvd.geometry.centres
_PRIOR = 0.1  # the heat of an untrained head, so that the many empty cells don't swamp the first steps


@dataclass(frozen=True)
class CentreMaps:
    """What the head says of each ground cell."""

    heat: Tensor  # (B, K, X, Y) logits
    code: Tensor  # (B, 8, X, Y)


@dataclass(frozen=True)
class Detections:
    """The boxes found in one sample, best first."""

    boxes: Tensor  # (N, 7) x, y, z centre, length, width, height (metres), yaw (radians), LiDAR frame
    scores: Tensor  # (N,) 0..1
    classes: Tensor  # (N,) int64


class CentreHead(nn.Module):
    """One shared convolution, then a branch of two for the heat map and for each part of the box."""

    def __init__(self, config: CentreHeadConfig, in_channels: int) -> None:
        super().__init__()
        shared, momentum = config.shared_channels, config.norm_momentum
        self.shared = conv_norm(in_channels, shared, momentum)
        outputs = {"heat": len(config.classes), **_BRANCHES}
        self.branches = nn.ModuleDict()
        for name, channels in outputs.items():
            last = nn.Conv2d(config.channels, channels, 3, padding=1)
            if name == "heat" and last.bias is not None:
                nn.init.constant_(last.bias, math.log(_PRIOR / (1 - _PRIOR)))
            self.branches[name] = nn.Sequential(conv_norm(shared, config.channels, momentum), last)

    def forward(self, bev: Tensor) -> CentreMaps:
        """(B, C, X, Y) -> maps of the same size, float32."""
        x = self.shared(bev)
        code = torch.cat([self.branches[name](x).float() for name in _BRANCHES], dim=1)
        return CentreMaps(self.branches["heat"](x).float(), code)


def find_boxes(maps: CentreMaps, grid: GridSpec, config: DecodeConfig) -> list[Detections]:
    """The boxes at the peaks of each sample's heat map, after non-maximum suppression."""
    heat = maps.heat.sigmoid()
    peaks = heat * (heat == F.max_pool2d(heat, 3, stride=1, padding=1))
    return [_sample_boxes(*sample, grid, config) for sample in zip(peaks, maps.code, strict=True)]


def _sample_boxes(peaks: Tensor, code: Tensor, grid: GridSpec, config: DecodeConfig) -> Detections:
    """Boxes from peaks (K, X, Y) and codes (8, X, Y)."""
    scores, place = peaks.flatten().topk(min(config.candidates, peaks.numel()))
    found = (scores >= config.min_score) & (scores > 0)  # 0: no peak
    scores, place = scores[found], place[found]
    classes, cell = place // grid.num_cells, place % grid.num_cells
    width = grid.shape[1]
    index = torch.stack([cell // width, cell % width], dim=1)
    boxes = decode(code.flatten(1).T[cell], index, grid)
    rows = suppress(boxes, scores, classes, config.max_overlap)
    return Detections(boxes[rows], scores[rows], classes[rows])
