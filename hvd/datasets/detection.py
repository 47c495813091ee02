"""Frames with boxes for training and evaluating a detector: prepared points and labels in, voxels and boxes out.

Letters: N points, V voxels, M boxes, B samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvd.datasets.box_augment import BoxScene, Database, draw_scene_matrix, move_scene, sample_objects
from hvd.datasets.box_augment_config import BoxAugmentation, ObjectSampling
from hvd.datasets.kitti import shown_by
from hvd.datasets.kitti_files import DONT_CARE
from hvd.datasets.prepared import Frames
from hvd.datasets.prepared_boxes import PreparedBoxes
from hvd.datasets.range_voxels import collate_range, voxelize_range
from hvd.errors import InputError
from hvd.geometry.boxes import lidar_from_rect_boxes
from hvd.geometry.grid import GridSpec
from hvd.models.detector_config import TOTAL_STRIDE
from hvd.training.seeding import numpy_generator


@dataclass(frozen=True)
class BoxBatch:
    """Voxels of several frames, and their boxes end to end."""

    tokens: tuple[str, ...]
    feature: Tensor  # (V, 4) f32 mean x, y, z in metres and intensity
    coords: Tensor  # (V, 4) i32 sample, x, y, z from the range's lowest corner
    box: Tensor  # (M, 7) f32, LiDAR frame
    label: Tensor  # (M,) i64 class
    sample: Tensor  # (M,) i64

    @property
    def batch_size(self) -> int:
        """Number of frames."""
        return len(self.tokens)

    def by_sample(self, values: Tensor) -> list[Tensor]:
        """B times the rows of `values` (M, ...) that belong to a sample."""
        return [values[self.sample == number] for number in range(self.batch_size)]


class DetectionData:
    """Random access to labelled frames: (frame, draw) decides every bit.

    Args:
        frames: folder of prepared frames.
        boxes: folder of prepared boxes, of the same frames.
        classes: what is to be detected; things of other classes are ignored, DontCare areas have no place in 3D.
    """

    def __init__(self, frames: Path, boxes: Path, classes: Sequence[str]) -> None:
        self.frames, self.boxes, self.classes = Frames(frames), PreparedBoxes(boxes), tuple(classes)

    def points(self, index: int) -> NDArray[np.float32]:
        """The finite points (N, 4) of a frame that its image shows: only those were labelled."""
        token, points = self.frames.tokens[index], self.frames.points(index)
        points = points[np.isfinite(points).all(axis=1)]
        shown: NDArray[np.float32] = points[shown_by(points, self.boxes.calibration(token), *self.boxes.sizes[token])]
        return shown

    def require_labels(self, rows: Sequence[int]) -> None:
        """Raises InputError if one of the frames `rows` has no label file."""
        first = next((row for row in rows if not self.boxes.has_labels(self.frames.tokens[row])), None)
        if first is not None:
            raise InputError(
                "no labels for frame",
                where=self.frames.tokens[first],
                why=f"no label_2/{self.frames.tokens[first]}.txt when the boxes were prepared",
                hint="restore it, or leave the frame out of the split (ImageSets, splits.json)",
            )

    def unlabelled(self, index: int) -> BoxScene:
        """A frame's points alone."""
        nothing = np.empty((0, 7))
        return BoxScene(self.frames.tokens[index], self.points(index), nothing, np.empty(0, np.int64), nothing)

    def scene(self, index: int) -> BoxScene:
        """A frame's points and labels.

        Raises:
            InputError, CorruptError: naming the file that is missing or damaged.
        """
        token = self.frames.tokens[index]
        objects = self.boxes.objects(token)
        placed = objects.take([row for row, name in enumerate(objects.types) if name != DONT_CARE])
        boxes = lidar_from_rect_boxes(placed.box3d, self.boxes.calibration(token).rect_from_lidar)
        classes = np.array([self._class_of(name) for name in placed.types], np.int64)
        wanted = classes >= 0
        return BoxScene(token, self.points(index), boxes[wanted], classes[wanted], boxes[~wanted])

    def _class_of(self, name: str) -> int:
        return self.classes.index(name) if name in self.classes else -1


@dataclass(frozen=True)
class Augmenter:
    """Draws what a training does to its frames: objects put in, then one move."""

    classes: tuple[str, ...]
    move: BoxAugmentation
    sampling: ObjectSampling | None
    database: Database

    def __call__(self, scene: BoxScene, rng: np.random.Generator) -> BoxScene:
        """A new scene, as `rng` draws it."""
        if self.sampling is not None:
            scene = sample_objects(scene, self.database, self.classes, self.sampling, rng)
        return move_scene(scene, draw_scene_matrix(self.move, rng))


def augmented(scenes: Sequence[BoxScene], augment: Augmenter, seed: tuple[int, int]) -> list[BoxScene]:
    """Each scene augmented as (seed, draw) and its place decide."""
    return [augment(scene, numpy_generator(seed[0], "detection", seed[1], place)) for place, scene in enumerate(scenes)]


def box_batch(scenes: Sequence[BoxScene], grid: GridSpec, low: tuple[int, int, int]) -> BoxBatch:
    """Voxels and boxes of `scenes`.

    Args:
        scenes: B of them.
        grid: the voxels; points outside are in none.
        low: index of its lowest voxel, counted from the LiDAR.
    """
    batch = collate_range([voxelize_range(scene.points, grid) for scene in scenes], low)
    counts = [len(scene.boxes) for scene in scenes]
    return BoxBatch(
        tokens=tuple(scene.token for scene in scenes),
        feature=torch.from_numpy(batch.feature),
        coords=torch.from_numpy(batch.coords),
        box=torch.from_numpy(np.concatenate([scene.boxes for scene in scenes]).astype(np.float32)),
        label=torch.from_numpy(np.concatenate([scene.classes for scene in scenes])),
        sample=torch.from_numpy(np.repeat(np.arange(len(scenes)), counts)),
    )


def require_voxels(batch: BoxBatch) -> BoxBatch:
    """`batch`, if there is anything in it to learn from.

    Raises:
        InputError: all voxels in the detector's range fall into one cell of its coarsest map: batch norm needs two.
    """
    cells = batch.coords[:, :3] // batch.coords.new_tensor([1, TOTAL_STRIDE, TOTAL_STRIDE])
    if bool((cells == cells[:1]).all()):
        where = ", ".join(batch.tokens)
        raise InputError("labelled frames with too few points in the detector's range", where=where,
                         hint="shift --label-offset, or label more frames")  # fmt: skip
    return batch
