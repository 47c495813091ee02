"""Augmentation of points with boxes as SECOND does it (Yan et al., Sensors 2018): objects of others, then one move.

N points, M boxes. Boxes are `boxes_lidar` of hvd.geometry.boxes: (M, 7), metres and radians.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.box_augment_config import BoxAugmentation, ObjectSampling
from hvd.geometry.boxes import points_in_boxes, transform_boxes
from hvd.geometry.rectangles import OUTLINE, intersection_area
from hvd.geometry.se3 import Float64, transform


@dataclass(frozen=True)
class BoxScene:
    """The points of a frame and what is labelled in it, LiDAR frame."""

    token: str
    points: NDArray[np.floating[Any]]  # (N, 4) x, y, z in metres; intensity 0..1
    boxes: Float64  # (M, 7)
    classes: NDArray[np.int64]  # (M,) 0..K-1
    ignored: Float64  # (I, 7) things of other classes: no target, and nothing is put into them


@dataclass(frozen=True)
class SampledObject:
    """An object that can be put into another frame, at its own place."""

    token: str  # of the frame it was cut from
    box: Float64  # (7,)
    points: NDArray[np.floating[Any]]  # (n, 4) those inside the box


Database = tuple[tuple[SampledObject, ...], ...]  # by class


def build_database(scenes: Iterable[BoxScene], num_classes: int, min_points: int) -> Database:
    """The objects of `scenes`, by class, that hold at least `min_points` points."""
    found: list[list[SampledObject]] = [[] for _ in range(num_classes)]
    for scene in scenes:
        inside = points_in_boxes(scene.points, scene.boxes)
        for box, label, members in zip(scene.boxes, scene.classes, inside, strict=True):
            if members.sum() >= min_points:
                found[label].append(SampledObject(scene.token, box, scene.points[members]))
    return tuple(map(tuple, found))


def sample_objects(
    scene: BoxScene, database: Database, names: Sequence[str], config: ObjectSampling, rng: np.random.Generator
) -> BoxScene:
    """`scene` with objects of the database where they hit no box; its own points inside them are gone.

    Args:
        scene: stays as it is.
        database: of the classes `names`, in that order.
        names: the classes.
        config: how many objects of each class.
        rng: draws which.
    """
    limits = dict(config.up_to)
    drawn: list[tuple[int, SampledObject]] = []
    for label, entries in enumerate(database):
        wanted = limits.get(names[label], 0) - int((scene.classes == label).sum())
        drawn += [(label, entries[index]) for index in rng.permutation(len(entries))[: max(wanted, 0)]]
    candidates = np.array([entry.box for _, entry in drawn]).reshape(-1, 7)
    free = find_free(candidates, np.concatenate([scene.boxes, scene.ignored]))
    if not free:
        return scene
    pasted = [drawn[row][1] for row in free]
    boxes = candidates[free]
    left = scene.points[~points_in_boxes(scene.points, boxes).any(axis=0)]
    return replace(
        scene,
        points=np.concatenate([left, *(entry.points for entry in pasted)]),
        boxes=np.concatenate([scene.boxes, boxes]),
        classes=np.concatenate([scene.classes, np.array([drawn[row][0] for row in free], np.int64)]),
    )


def find_free(boxes: Float64, others: Float64) -> list[int]:
    """Rows of `boxes` (M, 7) that, taken in turn, hit neither `others` (I, 7) nor one taken before, on the ground."""
    outlines = np.concatenate([boxes, others])[:, OUTLINE]
    one, other = np.indices((len(boxes), len(outlines))).reshape(2, -1)
    hits = (intersection_area(outlines[one], outlines[other]) > 0).reshape(len(boxes), len(outlines))
    free: list[int] = []
    for row in np.flatnonzero(~hits[:, len(boxes) :].any(axis=1)).tolist():
        if not hits[row, free].any():
            free.append(row)
    return free


def draw_scene_matrix(config: BoxAugmentation, rng: np.random.Generator) -> Float64:
    """Draw aug_from_lidar (4, 4): rotation about z, mirrored y, scale."""
    limit = math.radians(config.rotation_deg)
    angle = rng.uniform(-limit, limit)
    mirrored = rng.random() < 0.5 and config.flip_y
    aug_from_lidar = np.eye(4)
    aug_from_lidar[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    aug_from_lidar[1] *= -1.0 if mirrored else 1.0
    aug_from_lidar[:3] *= rng.uniform(*config.scale)
    return aug_from_lidar


def move_scene(scene: BoxScene, aug_from_lidar: Float64) -> BoxScene:
    """Points and boxes under one matrix (4, 4) as `draw_scene_matrix` gives it; points become float64."""
    xyz = transform(aug_from_lidar, scene.points[:, :3].astype(np.float64))
    return replace(
        scene,
        points=np.concatenate([xyz, scene.points[:, 3:].astype(np.float64)], axis=1),
        boxes=transform_boxes(aug_from_lidar, scene.boxes),
        ignored=transform_boxes(aug_from_lidar, scene.ignored),
    )
