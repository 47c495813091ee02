"""Pre-training samples: under every augmentation, points, pixels and grid stay one world."""

import numpy as np
import pytest
import torch

from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.datasets.prepared import write_arrays, write_frames
from hvd.datasets.pretraining import PretrainData, PretrainOptions
from hvd.datasets.student_voxels import MovingVoxels, build_voxelizer
from hvd.geometry.camera import lift
from stages.prep_frames import prepare
from stages.recipes import load
from stages.sources import open_dataset

VOXEL_M = 0.1


@pytest.fixture(scope="module")
def prepared(real_data, tmp_path_factory):
    """The real nuScenes frame with superpixels that number image columns, and images of its own size divided by 4."""
    folder = tmp_path_factory.mktemp("prepared")
    data = open_dataset("nuscenes", real_data("nuscenes"), "v1.0-mini")
    frame = prepare(data, data.samples[0], (56, 104))
    write_frames(folder / "frames" / "part-00000.zarr", [frame], {"image_size": [1600, 900], "cameras": ["x"] * 6})
    columns = np.broadcast_to(np.arange(416, dtype=np.uint16), (6, 224, 416))
    write_arrays(folder / "superpixels" / "part-00000.zarr", "superpixel", [np.ascontiguousarray(columns)], {})
    write_arrays(folder / "images" / "part-00000.zarr", "image", [np.zeros((6, 225, 400, 3), np.uint8)], {})
    return folder


PAPER_VOXELNET = load("paper", student="voxelnet").pretrain.student
VOXELIZERS = {"unet": MovingVoxels(VOXEL_M), "voxelnet": build_voxelizer(PAPER_VOXELNET)}
EDGES_M = {"unet": (VOXEL_M, VOXEL_M, VOXEL_M), "voxelnet": PAPER_VOXELNET.voxel_edges_m}


def open_data(
    folder, points: PointAugmentation, images: ImageAugmentation | None, student: str = "unet"
) -> PretrainData:
    options = PretrainOptions(
        height=224,
        width=416,
        voxelizer=VOXELIZERS[student],
        range_m=51.2,
        z_min_m=-5,
        z_max_m=3,
        points=points,
        images=images,
        seed=3,
    )
    return PretrainData(folder / "frames", folder / "superpixels", folder / "images", False, options)


AUGMENTATIONS = {
    "none": (PointAugmentation(), None),
    "points": (PointAugmentation(rotation_deg=180, shift_std_m=0.5, scale=(0.9, 1.1), flip=True), None),
    "images": (PointAugmentation(), ImageAugmentation(scale=(0.3, 1), ratio=(14 / 9, 17 / 9), flip=0.5)),
    "paper": (
        PointAugmentation(rotation_deg=22.5, shift_std_m=0.5, scale=(0.9, 1.1), flip=True, drop_cuboid=0.2),
        ImageAugmentation(scale=(0.3, 1), ratio=(14 / 9, 17 / 9), flip=0.5),
    ),
}


@pytest.mark.parametrize(("name", "student"), [*((name, "unet") for name in AUGMENTATIONS), ("paper", "voxelnet")])
def test_a_pair_lifted_at_its_depth_lands_in_its_own_voxel(prepared, name, student):
    data = open_data(prepared, *AUGMENTATIONS[name], student)
    edges = torch.tensor(EDGES_M[student], dtype=torch.float64)
    for draw in range(4):
        batch = data.batch([0, 0], draw)
        assert len(batch.pair_voxel) > 1000
        per_sample = 6
        lifted = torch.empty(len(batch.pair_uv), 3, dtype=torch.float64)
        for image in range(len(batch.intrinsics)):
            mine = batch.pair_image == image
            lifted[mine] = lift(
                batch.pair_uv[mine].double(),
                batch.pair_depth[mine].double(),
                batch.lidar_from_camera[image].double(),
                batch.intrinsics[image].double(),
                batch.aug_from_image[image].double(),
                batch.aug_from_lidar[image // per_sample].double(),
            )
        corner = (batch.coords[batch.pair_voxel, 1:] + batch.origin).double() * edges
        outside = torch.maximum(corner - lifted, lifted - corner - edges).amax(1)
        # float32 matrices and pixels: within a centimetre, at distances up to 60 m within 2 cm
        assert outside.max() < 0.02
        assert torch.equal(batch.coords[batch.pair_voxel, 0].long(), batch.pair_image // per_sample)


def test_superpixels_move_with_the_image(prepared):
    """Superpixels that number columns: the number under a pair is its column before the augmentation."""
    data = open_data(prepared, *AUGMENTATIONS["images"])
    batch = data.batch([0], 5)
    frame = data.frames.frame(0)
    for image in range(6):
        mine = batch.pair_image == image
        column, row = (batch.pair_uv[mine] + 0.5).floor().long().unbind(1)
        found = batch.segments[image, row, column].double()
        backward = torch.linalg.inv(batch.aug_from_image[image].double())
        u = batch.pair_uv[mine].double() @ backward[:2, :2].T + backward[:2, 2]
        expected = (u[:, 0] + 0.5) * 416 / 1600 - 0.5
        assert (found - expected).abs().max() <= 1.01
    assert len(frame.pairs) >= len(batch.pair_uv)


def test_a_voxelnets_features_and_origin_are_those_of_the_augmented_frame(prepared):
    data = open_data(prepared, *AUGMENTATIONS["paper"], "voxelnet")
    edges = torch.tensor(PAPER_VOXELNET.voxel_edges_m)
    for draw in range(3):
        batch = data.batch([0, 0], draw)
        assert batch.origin.tolist() == [-1024, -1024, -50]
        centre = (batch.coords[:, 1:] + batch.origin + 0.5) * edges
        assert ((batch.feature[:, :3] - centre).abs() <= edges / 2 + 1e-4).all()


@pytest.mark.parametrize("student", VOXELIZERS)
def test_a_draw_decides_every_bit(prepared, student):
    data = open_data(prepared, *AUGMENTATIONS["paper"], student)
    first, again, other = data.batch([0], 1), data.batch([0], 1), data.batch([0], 2)
    for name in ("coords", "feature", "pair_uv", "segments", "pixels"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.coords.shape != other.coords.shape or not torch.equal(first.coords, other.coords)


def test_points_out_of_range_take_no_part(prepared):
    data = open_data(prepared, *AUGMENTATIONS["none"])
    batch = data.batch([0], 0)
    place = (batch.coords[:, 1:] + batch.origin).double() * VOXEL_M
    assert place[:, :2].min() >= -51.2 - 1e-6
    assert place[:, :2].max() < 51.2
    assert place[:, 2].min() >= -5 - 1e-6
    assert place[:, 2].max() < 3
