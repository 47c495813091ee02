"""Batches for training hold each frame's own values, augmented by a draw of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.datasets.labels import SEMANTICKITTI
from hvd.datasets.prepared import part_path, write_labels
from hvd.datasets.pretraining import PretrainData, PretrainOptions
from hvd.datasets.segmentation import IGNORED, SegmentationData, majority
from hvd.datasets.student_voxels import MovingVoxels
from tests.datasets.two_frames import FIRST, HEIGHT, INTENSITY, POINTS, WIDTH, write_two_frames

VOXELS = MovingVoxels(0.5)
TURN = PointAugmentation(rotation_deg=180.0)
STILL = PointAugmentation()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_two_frames(tmp_path)
    return tmp_path


def pretraining(
    folder: Path, points: PointAugmentation = STILL, images: ImageAugmentation | None = None, seed: int = 0
) -> PretrainData:
    options = PretrainOptions(
        height=HEIGHT,
        width=WIDTH,
        voxelizer=VOXELS,
        range_m=51.2,
        z_min_m=-5,
        z_max_m=3,
        points=points,
        images=images,
        seed=seed,
    )
    return PretrainData(folder / "frames", folder / "superpixels", folder / "images", False, options)


def intensities(feature: torch.Tensor, coords: torch.Tensor, frames: list[int]) -> None:
    """The first of a voxel's features is its frame's intensity."""
    assert torch.equal(feature[:, 0], torch.tensor([INTENSITY[number] for number in frames])[coords[:, 0].long()])


def test_a_batch_holds_each_frame_s_own_values(folder: Path) -> None:
    batch = pretraining(folder).batch([1, 0], 0)
    intensities(batch.feature, batch.coords, [1, 0])
    values = [FIRST + 1, FIRST + 1, FIRST, FIRST]
    assert batch.pixels.flatten(1)[:, 0].tolist() == batch.segments.flatten(1)[:, 0].tolist() == values
    assert batch.ego_from_camera[:, 0, 3].tolist() == [101, 101, 100, 100]


def test_seed_draw_and_place_each_turn_the_points_otherwise(folder: Path) -> None:
    one, other = pretraining(folder, TURN), pretraining(folder, TURN, seed=1)
    batches = one.batch([0, 0], 0), one.batch([0], 1), other.batch([0], 0)
    assert len({float(turn[0, 0]) for batch in batches for turn in batch.aug_from_lidar}) == 4


def test_each_camera_has_a_crop_of_its_own(folder: Path) -> None:
    batch = pretraining(folder, images=ImageAugmentation(scale=(0.3, 0.6), flip=0.0)).batch([0], 0)
    assert not torch.equal(*batch.aug_from_image)


def test_a_cuboid_is_cut_out_of_voxels_and_pairs(folder: Path) -> None:
    """At most once more than half of the pairs, or than 1024 of a camera: then nothing is cut."""
    cut = pretraining(folder, PointAugmentation(drop_cuboid=0.6))
    batches = [cut.batch([0], draw) for draw in range(20)]
    assert 2 * 1024 <= min(len(batch.pair_voxel) for batch in batches) < POINTS
    assert len({len(batch.coords) for batch in batches}) > 1


def test_the_commonest_class_of_a_voxel_s_labelled_points() -> None:
    labels = np.array([2, 1, 2, IGNORED, IGNORED, 0, 3], np.uint8)
    voxel = np.array([0, 0, 0, 0, 1, -1, 2])
    assert majority(labels, voxel, 4, 4).tolist() == [2, IGNORED, 3, IGNORED]


def test_labelled_voxels_take_intensity_and_seed_step_and_place_each_turn_them_otherwise(folder: Path) -> None:
    raw = SEMANTICKITTI.inverse[np.arange(POINTS) % 5].astype(np.uint16)
    write_labels(part_path(folder / "labels", 0), [raw, raw])
    data = SegmentationData(folder / "frames", folder / "labels", SEMANTICKITTI, VOXELS)
    batch = data.batch([1, 0])
    intensities(batch.feature, batch.coords, [1, 0])
    draws = [data.batch([0, 0], TURN, seed) for seed in ((0, 0), (0, 1), (1, 0))]
    counts = {int((draw.coords[:, 0] == place).sum()) for draw in draws for place in (0, 1)}
    assert len(counts) == 6
