"""Labelled samples for fine-tuning and evaluation: prepared points and raw labels in, voxels with classes out.

Letters: V voxels, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvd.datasets import augment
from hvd.datasets.augment_config import PointAugmentation
from hvd.datasets.labels import IGNORED, LabelMap
from hvd.datasets.prepared import Frames, Labels
from hvd.datasets.student_voxels import Voxelizer
from hvd.errors import InputError
from hvd.geometry.se3 import transform
from hvd.training.seeding import numpy_generator


@dataclass(frozen=True)
class VoxelBatch:
    """Voxels of several frames; `label` is 0..C-1, or 255 where no point says."""

    tokens: tuple[str, ...]
    feature: Tensor  # (V, F) f32 as the student's voxelizer makes it
    coords: Tensor  # (V, 4) i32 batch, x, y, z >= 0
    point_voxel: Tensor  # (P,) i64, -1 for points that are not finite, or outside a VoxelNet's range
    label: Tensor  # (V,) i64

    @property
    def batch_size(self) -> int:
        """Number of frames."""
        return len(self.tokens)


class SegmentationData:
    """Random access to labelled voxels: (frame, draw) decides every bit.

    Args:
        frames, labels: folders of prepared parts; without labels every voxel is ignored.
        classes: the data set's label map.
        voxelizer: of the student.
    """

    def __init__(self, frames: Path, labels: Path | None, classes: LabelMap, voxelizer: Voxelizer) -> None:
        self.frames = Frames(frames)
        self.labels = None if labels is None else Labels(labels)
        self.classes, self.voxelizer = classes, voxelizer

    def require_labels(self, rows: Sequence[int]) -> None:
        """Raises InputError if one of the frames `rows` has no labels, as those of test sequences."""
        assert self.labels is not None, "opened without labels"
        lacking = self.labels.num_points != self.frames.num_points
        first = next((row for row in rows if lacking[row]), None)
        if first is not None:
            raise InputError(
                "no labels for sample", where=self.frames.tokens[first], hint="choose a split that has labels"
            )

    def point_labels(self, index: int) -> NDArray[np.uint8]:
        """Classes of a frame's points (P,), 255 = ignored."""
        assert self.labels is not None, "opened without labels"
        return self.classes.map(self.labels[index])

    def batch(
        self,
        indices: Sequence[int],
        augmentation: PointAugmentation | None = None,
        seed: tuple[int, int] = (0, 0),
    ) -> VoxelBatch:
        """The voxels of frames `indices`, augmented as `seed` = (seed, draw) decides."""
        samples, labels, tokens = [], [], []
        for place, index in enumerate(indices):
            raw, token = self.frames.points(index), self.frames.tokens[index]
            with np.errstate(invalid="ignore"):  # points that are not finite, which are in no voxel
                points = raw[:, :3].astype(np.float64)
                if augmentation is not None:
                    rng = numpy_generator(seed[0], "finetune", seed[1], place)
                    points = transform(augment.draw_point_matrix(augmentation, rng), points)
            voxels = self.voxelizer.voxels(points, raw[:, 3])
            if augmentation is not None and len(voxels.coords) == 0:
                raise InputError("a labelled frame has no finite point", where=token, hint="shift --label-offset")
            samples.append(voxels)
            tokens.append(token)
            labels.append(self._voxel_labels(index, voxels.point_voxel, len(voxels.coords)))
        batch = self.voxelizer.collate(samples)
        return VoxelBatch(
            tokens=tuple(tokens),
            feature=torch.from_numpy(batch.feature),
            coords=torch.from_numpy(batch.coords),
            point_voxel=torch.from_numpy(batch.point_voxel),
            label=torch.from_numpy(np.concatenate(labels)),
        )

    def _voxel_labels(self, index: int, point_voxel: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        if self.labels is None:
            return np.full(count, IGNORED, np.int64)
        return majority(self.point_labels(index), point_voxel, count, len(self.classes.names))


def majority(
    labels: NDArray[np.uint8], point_voxel: NDArray[np.int64], num_voxels: int, num_classes: int
) -> NDArray[np.int64]:
    """The commonest class of each voxel's labelled points: (num_voxels,), 255 where none is labelled.

    Args:
        labels: (P,) 0..num_classes-1, or 255.
        point_voxel: (P,) row of the voxel, or -1.
    """
    counted = (labels != IGNORED) & (point_voxel >= 0)
    index = point_voxel[counted] * num_classes + labels[counted]
    votes = np.bincount(index, minlength=num_voxels * num_classes).reshape(num_voxels, num_classes)
    return np.where(votes.any(1), votes.argmax(1), IGNORED)
