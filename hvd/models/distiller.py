"""The networks of hybrid-view distillation (HVDistill, arXiv 2403.11817) and one forward pass to the losses' inputs.

Letters: V voxels, M pairs, I = B*K images, C channels, D depth bins, (h, w) feature map, X*Y ground cells.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hvd.geometry.grid import GridSpec
from hvd.models.config import BevHeadConfig, UNetConfig
from hvd.models.depth import build_depth_net, camera_numbers
from hvd.models.detector_config import VoxelNetConfig
from hvd.models.heads import Collapsed, PixelHead, PointHead, build_bev_head
from hvd.models.splat import frustum_cells, splat
from hvd.models.student import build_student
from hvd.models.teacher_config import DepthBins, DepthNetConfig, TeacherShape


@dataclass(frozen=True)
class Cameras:
    """The geometry of I images: what lifts their pixels into the augmented LiDAR frames."""

    intrinsics: Tensor  # (I, 3, 3)
    lidar_from_camera: Tensor  # (I, 4, 4)
    ego_from_camera: Tensor  # (I, 4, 4)
    aug_from_image: Tensor  # (I, 3, 3)
    aug_from_lidar: Tensor  # (B, 4, 4)

    @property
    def sample(self) -> Tensor:
        """(I,) int64: the sample each image belongs to."""
        per_sample = len(self.intrinsics) // len(self.aug_from_lidar)
        return torch.arange(len(self.intrinsics), device=self.intrinsics.device) // per_sample


def released_geometry(cameras: Cameras, height: int, width: int) -> Cameras:
    """The cameras as the paper's public code lifts from them, for comparison only.

    Its point augmentation never reaches the lifting, its image matrix has x and y swapped, and its flip is about the
    height instead of the width (of the network's input, in pixels).
    """
    image = cameras.aug_from_image.clone()
    flipped = image[:, 0, 0] < 0
    image[flipped, 0, 2] += height - width
    swap = image.new_tensor([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    still = torch.eye(4, dtype=cameras.aug_from_lidar.dtype, device=image.device).expand_as(cameras.aug_from_lidar)
    return replace(cameras, aug_from_image=swap @ image @ swap, aug_from_lidar=still)


@dataclass(frozen=True)
class BevView:
    """Both modalities on the ground grid."""

    student: Collapsed
    image: Tensor  # (B, X*Y, C) splatted features
    reached: Tensor  # (B, X*Y) bool: cells that a ray reaches
    depth_logits: Tensor  # (I, D, h, w)


class BevBranch(nn.Module):
    """Student features collapsed, and image features lifted with a learnt depth and splatted, on one grid."""

    def __init__(
        self,
        in_channels: int,
        teacher: TeacherShape,
        head: BevHeadConfig,
        depth_net: DepthNetConfig,
        bins: DepthBins,
        grid: GridSpec,
        slab_m: tuple[float, float],
        voxel_edges_m: tuple[float, float, float],
        min_weight: float,
        uniform_depth: bool = False,
    ) -> None:
        super().__init__()
        low, high = slab_m
        self.volume = GridSpec(
            (*grid.minimum, low), (*grid.maximum, high), (*grid.cell, high - low)
        )  # the ground grid with one slab in z
        self.bins, self.uniform_depth = bins, uniform_depth
        self.stride, self.min_weight = teacher.stride, min_weight
        self.head = build_bev_head(head, in_channels, grid, slab_m, voxel_edges_m)
        self.depth_net = build_depth_net(depth_net, teacher.channels, bins.count)

    def forward(
        self,
        voxels: Tensor,
        coords: Tensor,
        origin: Tensor,
        features: Tensor,
        cameras: Cameras,
        lifted: Tensor | None = None,
    ) -> BevView:
        """Student voxels (V, C) at coords (V, 4), and teacher features (I, C, h, w) -> both on the grid.

        With `lifted` (I, h, w) bool, the image's side is made of those pixels alone.
        """
        student = self.head(voxels, coords, origin)
        numbers = camera_numbers(cameras.intrinsics, cameras.aug_from_image, cameras.ego_from_camera)
        context, logits = self.depth_net(features, numbers)
        if self.uniform_depth:
            logits = torch.zeros_like(logits)
        cells = frustum_cells(
            self.volume,
            torch.tensor(self.bins.centres, device=features.device),
            features.shape[-2],
            features.shape[-1],
            self.stride,
            cameras.lidar_from_camera,
            cameras.intrinsics,
            cameras.aug_from_image,
            cameras.aug_from_lidar[cameras.sample],
        )
        if lifted is not None:
            cells = cells.masked_fill(~lifted.flatten(1)[:, :, None], -1)
        batch, num_cells = len(cameras.aug_from_lidar), math.prod(self.volume.shape)
        depth = logits.float().softmax(1)
        image, reached = splat(context, depth, cells, cameras.sample, batch, num_cells, self.min_weight)
        return BevView(student, image, reached, logits)


class Distiller(nn.Module):
    """Everything that trains: the student, its heads, and the heads on top of the frozen teacher."""

    def __init__(
        self,
        student: UNetConfig | VoxelNetConfig,
        teacher: TeacherShape,
        channels: int,
        pixel_size: tuple[int, int] | None,
        ipv: bool,
    ) -> None:
        super().__init__()
        self.student = build_student(student)
        self.point_head = PointHead(self.student.out_channels, channels) if ipv else None
        self.pixel_head = PixelHead(teacher.channels, channels, pixel_size) if ipv else None
        self.bev: BevBranch | None = None
