"""What each kind of student gets of points, and a VoxelNet's pre-training samples on frames made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hvd.datasets.augment_config import PointAugmentation
from hvd.datasets.prepared import Frame, part_path, write_arrays, write_frames
from hvd.datasets.pretraining import PretrainData, PretrainOptions
from hvd.datasets.student_voxels import MovingVoxels, RangeVoxels, build_voxelizer
from hvd.errors import InputError
from hvd.geometry.camera import Pairs
from hvd.models.config import SMALL_UNET, StudentKind
from stages.recipes import load

STUDENT = load("mini", student="voxelnet").pretrain.student
EDGES = np.array(STUDENT.voxel_edges_m)
UPRIGHT = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)  # z ahead is x of the LiDAR


def write(folder: Path, points: np.ndarray) -> None:
    """A frame whose only camera looks along x, with one pair for each point, whatever it sees."""
    count = len(points)
    pairs = Pairs(
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.uint8),
        np.full((count, 2), 8, np.float32),
        points[:, 0].astype(np.float32),
    )
    eye = np.eye(3, dtype=np.float32)[None]
    depth = np.zeros((1, 4, 4), np.float32)
    frame = Frame("t", "s", points.astype(np.float32), pairs, eye, UPRIGHT[None], np.eye(4)[None], depth)
    write_frames(part_path(folder / "frames", 0), [frame], {"image_size": [16, 16], "cameras": ["front"]})
    write_arrays(part_path(folder / "superpixels", 0), "superpixel", [np.zeros((1, 16, 16), np.uint16)], {})
    write_arrays(part_path(folder / "images", 0), "image", [np.zeros((1, 16, 16, 3), np.uint8)], {})


def open_data(folder: Path, kind: StudentKind, augmentation: PointAugmentation) -> PretrainData:
    options = PretrainOptions(
        height=16,
        width=16,
        voxelizer=build_voxelizer(STUDENT if kind == "voxelnet" else SMALL_UNET),
        range_m=51.2,
        z_min_m=-5,
        z_max_m=3,
        points=augmentation,
        images=None,
        seed=0,
    )
    return PretrainData(folder / "frames", folder / "superpixels", folder / "images", False, options)


def test_each_kind_has_its_own() -> None:
    assert build_voxelizer(SMALL_UNET) == MovingVoxels(0.2)
    assert build_voxelizer(STUDENT) == RangeVoxels(STUDENT.grid, (-256, -256, -50))


def test_a_u_nets_origin_follows_its_points_and_a_voxelnets_stays() -> None:
    points, intensity = np.array([[20.0, 3.0, 0.5], [20.05, 3.1, 0.5], [-7.3, 0.0, 3.5]]), np.array([0.2, 0.4, 0.6])
    for shift in (0.0, 5.0):
        moved = points + np.array([shift, 0, 0])
        for voxelizer, edges in ((MovingVoxels(0.2), 0.2), (build_voxelizer(STUDENT), EDGES)):
            batch = voxelizer.collate([voxelizer.voxels(moved, intensity)])
            expected = np.floor(moved / edges)
            assert np.array_equal((batch.coords[:, 1:] + batch.origin)[batch.point_voxel], expected)
            assert batch.feature[batch.point_voxel, -1] == pytest.approx([0.3, 0.3, 0.6])
            fixed = isinstance(voxelizer, RangeVoxels)
            assert (batch.origin.tolist() == list(STUDENT.low)) == fixed
            if fixed:
                mean = moved[:2].mean(axis=0)
                assert batch.feature[batch.point_voxel, :3] == pytest.approx(np.stack([mean, mean, moved[2]]))


def test_what_augmentation_moves_off_the_range_is_in_no_pair_of_a_voxelnet(tmp_path: Path) -> None:
    points = np.array([[10.0, 2, 0, 0.1], [48.0, 1, 0, 0.2], [20, 1, 2.9, 0.3], [20, 1, 3.3, 0.4], [60, 0, 0, 0.5]])
    write(tmp_path, points)
    larger = PointAugmentation(scale=(1.2, 1.2))  # 48 m -> 57.6 m; 2.9 m -> 3.48 m; 3.3 and 60 m are cut before
    unet, voxelnet = (open_data(tmp_path, kind, larger).batch([0], 0) for kind in ("unet", "voxelnet"))
    assert unet.pair_depth.tolist() == [10, 48, 20]
    assert voxelnet.pair_depth.tolist() == [10, 20]
    seen = voxelnet.feature[voxelnet.pair_voxel]
    torch.testing.assert_close(seen, torch.tensor([[12, 2.4, 0, 0.1], [24, 1.2, 3.48, 0.3]]))  # augmented, unlike uv
    place = (voxelnet.coords[voxelnet.pair_voxel, 1:] + voxelnet.origin).numpy() * EDGES
    assert ((place <= seen[:, :3].numpy() + 1e-5) & (seen[:, :3].numpy() <= place + EDGES + 1e-5)).all()
    assert torch.equal(unet.pair_uv[[0, 2]], voxelnet.pair_uv)


def test_a_frame_that_augmentation_moves_off_the_range_is_named(tmp_path: Path) -> None:
    write(tmp_path, np.array([[48.0, 1, 0, 0.2]]))
    with pytest.raises(InputError, match=r"no point in range.*\bt\b"):
        open_data(tmp_path, "voxelnet", PointAugmentation(scale=(1.2, 1.2))).batch([0], 0)
