"""The release's geometry, kept for comparison, and how far both views' gradients reach into either student."""

from typing import Any

import pytest
import torch

from hvd.geometry.grid import GridSpec
from hvd.models import distiller
from hvd.models.config import SMALL_BEV_HEAD, BevHeadConfig
from hvd.models.detector_config import VoxelNetConfig
from hvd.models.distiller import BevBranch, Cameras, Distiller, released_geometry
from hvd.models.heads import build_bev_head
from hvd.models.teacher_config import SMALL_DEPTH_NET, DepthBins, TeacherShape
from tests.models.dense import random_coords

HEIGHT, WIDTH = 56, 96


def cameras(aug_from_image: torch.Tensor, aug_from_lidar: torch.Tensor) -> Cameras:
    eye = torch.eye(4, dtype=torch.float64)[None]
    return Cameras(torch.eye(3, dtype=torch.float64)[None], eye, eye, aug_from_image[None], aug_from_lidar[None])


def test_without_augmentation_nothing_changes():
    exact = cameras(torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    broken = released_geometry(exact, HEIGHT, WIDTH)
    assert torch.equal(broken.aug_from_image, exact.aug_from_image)
    assert torch.equal(broken.aug_from_lidar, exact.aug_from_lidar)


def test_point_augmentation_is_lost():
    turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    broken = released_geometry(cameras(torch.eye(3, dtype=torch.float64), turn), HEIGHT, WIDTH)
    assert torch.equal(broken.aug_from_lidar[0], torch.eye(4, dtype=torch.float64))


def test_x_and_y_are_swapped_and_the_flip_takes_the_height():
    image = torch.tensor([[-2.0, 0, WIDTH - 1], [0, 3, 5], [0, 0, 1]], dtype=torch.float64)
    exact = cameras(image, torch.eye(4, dtype=torch.float64))
    broken = released_geometry(exact, HEIGHT, WIDTH).aug_from_image[0]
    assert torch.equal(broken, torch.tensor([[3.0, 0, 5], [0, -2, HEIGHT - 1], [0, 0, 1]], dtype=torch.float64))
    assert torch.equal(exact.aug_from_image[0], image), "the argument stays as it was"


TINY = VoxelNetConfig(
    voxel_size_m=(0.2, 0.2, 0.1),
    range_min_m=(-1.6, -1.6, -1.0),
    range_max_m=(1.6, 1.6, 1.4),
    stem=3,
    stages=(4, 5, 6, 7),
    out_channels=8,
)
CONV = BevHeadConfig(kind="conv", strides=((2, 2, 5), (2, 2, 4)))
LAYERS = ("conv_input", "conv1", "conv2", "conv3", "conv4", "conv_out")


@pytest.mark.parametrize("view", ["ipv", "pool", "conv"])
@pytest.mark.parametrize("read", [TINY.read, ("conv2",), ("conv3", "conv_out")])
def test_each_view_teaches_every_level_that_is_read(view: str, read: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    config = TINY.with_(read=read)
    networks = Distiller(config, TeacherShape(channels=4, stride=8), 16, None, ipv=True)
    coords = random_coords(2, config.counts, 0.03, seed=0)
    voxels = networks.student(torch.rand(len(coords), 4), coords, 2)
    assert voxels.shape == (len(coords), config.feature_channels)
    if view == "ipv":
        assert networks.point_head is not None
        compared = networks.point_head(voxels)[::7]  # as at the pairs
    else:
        grid, slab = GridSpec((-1.6, -1.6), (1.6, 1.6), (0.8, 0.8)), (-1.0, 1.0)
        head = build_bev_head(
            CONV if view == "conv" else SMALL_BEV_HEAD, voxels.shape[1], grid, slab, TINY.voxel_size_m
        )
        compared, cell, _ = head(voxels, coords, torch.tensor(TINY.low, dtype=torch.int32))
        assert sorted(cell.tolist()) == list(range(2 * 4 * 4))
    (compared @ torch.rand(compared.shape[1])).square().sum().backward()
    last = max(LAYERS.index(name) for name in read)
    for name, weight in networks.student.named_parameters():
        taught = weight.grad is not None and bool(weight.grad.any())
        assert taught == (LAYERS.index(name.split(".")[0]) <= last), name


def test_the_cameras_of_a_sample_lie_side_by_side() -> None:
    eye = torch.eye(4).expand(6, 4, 4)
    assert Cameras(eye, eye, eye, eye, torch.eye(4).expand(2, 4, 4)).sample.tolist() == [0, 0, 0, 1, 1, 1]


def test_bins_stand_for_their_middle_cameras_for_their_place_and_the_view_teaches_depth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bins, seen = DepthBins(lo_m=1.0, hi_m=5.0, step_m=1.0), {}
    cells, numbers = distiller.frustum_cells, distiller.camera_numbers

    def frustum_cells(grid: GridSpec, depth: torch.Tensor, *rest: Any) -> Any:
        seen["depth"] = depth
        return cells(grid, depth, *rest)

    def camera_numbers(*of: Any) -> Any:
        seen["ego_from_camera"] = of[2]
        return numbers(*of)

    monkeypatch.setattr(distiller, "frustum_cells", frustum_cells)
    monkeypatch.setattr(distiller, "camera_numbers", camera_numbers)
    branch = BevBranch(
        in_channels=3,
        teacher=TeacherShape(channels=4, stride=4),
        head=SMALL_BEV_HEAD,
        depth_net=SMALL_DEPTH_NET,
        bins=bins,
        grid=GridSpec((-8.0, -8.0), (8.0, 8.0), (1.0, 1.0)),
        slab_m=(-4.0, 4.0),
        voxel_edges_m=(0.5, 0.5, 0.5),
        min_weight=0.0,
    )
    ahead = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]).expand(2, 4, 4)
    intrinsics = torch.tensor([[8.0, 0, 8], [0, 8, 8], [0, 0, 1]]).expand(2, 3, 3)
    views = Cameras(intrinsics, ahead, 2 * ahead, torch.eye(3).expand(2, 3, 3), torch.eye(4)[None])
    voxel, origin = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
    view = branch(torch.zeros(1, 3), voxel, origin, torch.rand(2, 4, 4, 4), views)
    assert seen["depth"].tolist() == [1.5, 2.5, 3.5, 4.5]
    assert torch.equal(seen["ego_from_camera"], 2 * ahead)
    view.image.square().sum().backward()
    for name, weight in branch.depth_net.depth.named_parameters():
        assert weight.ndim == 1 or (weight.grad is not None and weight.grad.any()), name
