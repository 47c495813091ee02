"""Which labelled and detected objects of KITTI overlap, and by how much: in the image, on the ground, in space."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.kitti_files import Objects
from hvd.geometry.rectangles import intersection_area, may_overlap
from hvd.geometry.se3 import Float64

Kind = Literal["2d", "bev", "3d"]


class Gathered(NamedTuple):
    """The objects of all frames, end to end."""

    objects: Objects
    offset: NDArray[np.int64]  # (frames + 1,)
    types: NDArray[np.str_]
    score: Float64  # of true objects: zeros

    @property
    def height_px(self) -> Float64:
        height: Float64 = self.objects.box2d[:, 3] - self.objects.box2d[:, 1]
        return height


def gather(frames: Sequence[Objects]) -> Gathered:
    """Put the objects of all frames end to end."""
    scores = [np.zeros(len(frame)) if frame.score is None else frame.score for frame in frames]
    objects = Objects(
        types=tuple(name for frame in frames for name in frame.types),
        truncation=np.concatenate([np.empty(0), *(frame.truncation for frame in frames)]),
        occlusion=np.concatenate([np.empty(0, np.int64), *(frame.occlusion for frame in frames)]),
        alpha=np.concatenate([np.empty(0), *(frame.alpha for frame in frames)]),
        box2d=np.concatenate([np.empty((0, 4)), *(frame.box2d for frame in frames)]),
        box3d=np.concatenate([np.empty((0, 7)), *(frame.box3d for frame in frames)]),
    )
    offset = np.cumsum([0, *(len(frame) for frame in frames)])
    return Gathered(objects, offset, np.array(objects.types, dtype=np.str_), np.concatenate([np.empty(0), *scores]))


class Pairs(NamedTuple):
    """True objects and detections of a frame that overlap at all, by true object, then by detection, in file order."""

    true: NDArray[np.int64]  # (P,) rows of the true objects
    found: NDArray[np.int64]  # (P,) rows of the detections
    iou: Float64  # (P,)
    share: Float64  # (P,) of the detection that lies in the true object


def overlapping(kind: Kind, true: Gathered, found: Gathered) -> Pairs:
    """All pairs that overlap, DontCare areas among the true ones.

    Args:
        kind: of boxes in the image, of boxes on the ground, or of boxes in space.
        true: the labelled objects of all frames.
        found: what was detected in the same frames.
    """
    rows = [
        np.stack(np.meshgrid(np.arange(g0, g1), np.arange(d0, d1), indexing="ij")).reshape(2, -1)
        for g0, g1, d0, d1 in zip(true.offset, true.offset[1:], found.offset, found.offset[1:], strict=False)
    ]
    g, d = np.concatenate([np.empty((2, 0), np.int64), *rows], axis=1)
    if kind == "2d":
        shared, area_g, area_d = _shared_area(true.objects.box2d[g], found.objects.box2d[d])
    else:
        near = may_overlap(_footprint(true.objects.box3d[g]), _footprint(found.objects.box3d[d]))
        g, d = g[near], d[near]
        shared, area_g, area_d = _shared_solid(true.objects.box3d[g], found.objects.box3d[d], upright=kind == "3d")
    some = shared > 0
    g, d, shared, area_g, area_d = g[some], d[some], shared[some], area_g[some], area_d[some]
    return Pairs(g, d, shared / (area_g + area_d - shared), shared / area_d)


def _shared_area(true: Float64, found: Float64) -> tuple[Float64, Float64, Float64]:
    """What 2D boxes (N, 4) share, and the areas of both: (N,) each."""
    width, height = (np.minimum(true[:, 2:], found[:, 2:]) - np.maximum(true[:, :2], found[:, :2])).clip(min=0).T
    return width * height, (true[:, 2:] - true[:, :2]).prod(axis=1), (found[:, 2:] - found[:, :2]).prod(axis=1)


def _footprint(boxes_rect: Float64) -> Float64:
    """Boxes (N, 7) on the ground, as rectangles (N, 5) on the plane of x and z; rotation_y turns from z to x there."""
    return boxes_rect[:, [3, 5, 2, 1, 6]] * [1.0, 1.0, 1.0, 1.0, -1.0]


def _shared_solid(true: Float64, found: Float64, upright: bool) -> tuple[Float64, Float64, Float64]:
    """What boxes (N, 7) share on the ground, or with `upright` in space, and the size of both: (N,) each."""
    shared = intersection_area(_footprint(true), _footprint(found))
    size_true, size_found = (boxes[:, 1] * boxes[:, 2] for boxes in (true, found))
    if not upright:
        return shared, size_true, size_found
    low = np.minimum(true[:, 4], found[:, 4])  # y points down, and is that of the bottom
    high = np.maximum(true[:, 4] - true[:, 0], found[:, 4] - found[:, 0])
    return shared * (low - high).clip(min=0), size_true * true[:, 0], size_found * found[:, 0]
