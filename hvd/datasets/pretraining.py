"""Pre-training samples: prepared parts in, augmented and matched tensors out.

Letters: B samples, K cameras, V voxels, M point-pixel pairs, (H, W) network input, (h, w) teacher feature map.
Points, lifted pixels and the BEV grid all live in the augmented LiDAR frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvd.datasets import augment
from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.datasets.prepared import Arrays, Frame, Frames
from hvd.datasets.student_voxels import Voxelizer
from hvd.datasets.voxels import Batch, Voxels
from hvd.errors import InputError
from hvd.geometry.camera import Pairs, warp
from hvd.geometry.occlusion import occluded
from hvd.geometry.se3 import inverse, transform
from hvd.training.seeding import numpy_generator

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PretrainBatch:
    """Everything one step needs; image rows run over (sample, camera)."""

    tokens: tuple[str, ...]
    feature: Tensor  # (V, F) f32 as the student's voxelizer makes it
    coords: Tensor  # (V, 4) i32 batch, x, y, z >= 0
    origin: Tensor  # (3,) i32 subtracted from the voxel indices
    pair_voxel: Tensor  # (M,) i64 row of the voxel
    pair_image: Tensor  # (M,) i64 row of the image
    pair_uv: Tensor  # (M, 2) f32 pixels of the network input
    pair_depth: Tensor  # (M,) f32 metres, of the unaugmented camera
    segments: Tensor  # (B*K, H, W) i32 superpixels, numbered from 0 in each image
    pixels: Tensor  # (B*K, 3, H, W) u8 images, or (B*K, C, h, w) f16 teacher features
    intrinsics: Tensor  # (B*K, 3, 3) f32
    lidar_from_camera: Tensor  # (B*K, 4, 4) f32
    ego_from_camera: Tensor  # (B*K, 4, 4) f32
    aug_from_image: Tensor  # (B*K, 3, 3) f32
    aug_from_lidar: Tensor  # (B, 4, 4) f32

    @property
    def batch_size(self) -> int:
        """Number of samples B."""
        return len(self.tokens)


@dataclass(frozen=True)
class PretrainOptions:
    """What turns prepared frames into samples. Sizes in pixels, lengths in metres."""

    height: int
    width: int
    voxelizer: Voxelizer
    range_m: float
    z_min_m: float
    z_max_m: float
    points: PointAugmentation
    images: ImageAugmentation | None
    seed: int
    occlusion_filter: bool = False


class PretrainData:
    """Random access to pre-training samples: (frame, draw) decides every bit of one.

    Args:
        frames, superpixels, pixels: folders of prepared parts; `pixels` holds images or teacher features.
        cached: whether `pixels` holds teacher features of the unaugmented, resized image.
    """

    def __init__(self, frames: Path, superpixels: Path, pixels: Path, cached: bool, options: PretrainOptions) -> None:
        self.frames = Frames(frames)
        self.superpixels = Arrays(superpixels, "superpixel")
        self.pixels = Arrays(pixels, "feature" if cached else "image")
        self.cached, self.options = cached, options

    def batch(self, indices: Sequence[int], draw: int) -> PretrainBatch:
        """The samples of frames `indices`, augmented as for the draw numbered `draw`."""
        samples = [self._sample(index, (draw, place)) for place, index in enumerate(indices)]
        return _stack(samples, self.options.voxelizer.collate([sample.voxels for sample in samples]))

    def _sample(self, index: int, draw: tuple[int, int]) -> "_Sample":
        options, frame = self.options, self.frames.frame(index)
        rng = numpy_generator(options.seed, "pretrain", *draw)
        aug_from_lidar = augment.draw_point_matrix(options.points, rng)
        in_range = self._in_range(frame.point)
        if options.points.drop_cuboid:
            keep = augment.drop_cuboid(frame.point[:, :3], frame.pairs, options.points.drop_cuboid, rng)
            in_range &= keep
        kept = np.flatnonzero(in_range)
        points = transform(aug_from_lidar, frame.point[kept, :3].astype(np.float64))
        voxels = options.voxelizer.voxels(points, frame.point[kept, 3])
        if not len(voxels.coords):
            raise InputError("frame has no point in range", where=frame.token, hint="widen pretrain.range_m")
        width, height = frame_size(self.frames)
        aug_from_image = self._draw_images(len(frame.intrinsics), width, height, rng)
        place = np.full(len(frame.point), -1, np.int64)
        place[kept] = voxels.point_voxel
        pairs, voxel = self._visible(frame.pairs, place, aug_from_image)
        segments, pixels = self._warp(index, aug_from_image, width, height)
        return _Sample(frame, voxels, pairs, voxel, segments, pixels, aug_from_image, aug_from_lidar)

    def _in_range(self, points: Floats) -> NDArray[np.bool_]:
        options = self.options
        with np.errstate(invalid="ignore"):  # points that are not finite compare as outside
            flat = (np.abs(points[:, :2]) < options.range_m).all(1)
            high = (points[:, 2] >= options.z_min_m) & (points[:, 2] < options.z_max_m)
        inside: NDArray[np.bool_] = flat & high & np.isfinite(points[:, 3])
        return inside

    def _draw_images(self, cameras: int, width: int, height: int, rng: np.random.Generator) -> Floats:
        options = self.options
        if options.images is None:
            one = augment.resize_only(width, height, options.width, options.height)
            return np.repeat(one[None], cameras, 0)
        draws = [
            augment.draw_image_matrix(options.images, rng, width, height, options.width, options.height)
            for _ in range(cameras)
        ]
        return np.stack(draws)

    def _visible(
        self, pairs: Pairs, place: NDArray[np.int64], aug_from_image: Floats
    ) -> tuple[Pairs, NDArray[np.int64]]:
        """The pairs whose point has a voxel and whose pixel is inside the augmented image; and their voxels."""
        options = self.options
        uv = np.empty_like(pairs.uv)
        for camera, matrix in enumerate(aug_from_image):
            mine = pairs.camera == camera
            uv[mine] = warp(matrix, pairs.uv[mine].astype(np.float64))
        limit = np.array([options.width - 0.5, options.height - 0.5])
        seen = (place[pairs.point] >= 0) & (uv >= -0.5).all(1) & (uv < limit).all(1)
        if options.occlusion_filter:
            seen &= ~occluded(pairs, frame_size(self.frames)[0])
        rows = np.flatnonzero(seen)
        kept = Pairs(pairs.point[rows], pairs.camera[rows], uv[rows], pairs.depth[rows])
        return kept, place[kept.point]

    def _warp(
        self, index: int, aug_from_image: Floats, width: int, height: int
    ) -> tuple[NDArray[np.integer[Any]], NDArray[np.generic]]:
        """Superpixels (K, H, W), and images (K, H, W, 3) or features (K, C, h, w), under the augmentation."""
        options = self.options
        segments, pixels = self.superpixels[index], self.pixels[index]
        if options.images is None and self.cached:
            return segments, pixels
        size = (options.width, options.height)
        from_segments = _from_stored(aug_from_image, width, height, segments.shape[1:3])
        warped = np.stack([augment.warp_labels(s, a, *size) for s, a in zip(segments, from_segments, strict=True)])
        from_images = _from_stored(aug_from_image, width, height, pixels.shape[1:3])
        images = np.stack([augment.warp_image(p, a, *size) for p, a in zip(pixels, from_images, strict=True)])
        return warped, images


@dataclass(frozen=True)
class _Sample:
    frame: Frame
    voxels: Voxels
    pairs: Pairs
    pair_voxel: NDArray[np.int64]
    segments: NDArray[np.integer[Any]]
    pixels: NDArray[np.generic]
    aug_from_image: Floats
    aug_from_lidar: Floats


def frame_size(frames: Frames) -> tuple[int, int]:
    """(width, height) in pixels of the original images of a prepared data set."""
    width, height = frames.attributes["image_size"]
    return int(width), int(height)


def _from_stored(aug_from_image: Floats, width: int, height: int, stored: Sequence[int]) -> Floats:
    """The same augmentation, counted from an image that was stored at (height, width) `stored`."""
    to_stored = augment.resize_only(width, height, stored[1], stored[0])
    return aug_from_image @ np.linalg.inv(to_stored)


def _stack(samples: list[_Sample], batch: Batch) -> PretrainBatch:
    first_voxel = np.cumsum([0, *batch.voxel_counts])
    cameras = [len(s.frame.intrinsics) for s in samples]
    first_image = np.cumsum([0, *cameras])
    pixels = np.concatenate([s.pixels for s in samples])
    if pixels.dtype == np.uint8:
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    camera_from_lidar = np.concatenate([s.frame.camera_from_lidar for s in samples])
    return PretrainBatch(
        tokens=tuple(s.frame.token for s in samples),
        feature=torch.from_numpy(batch.feature),
        coords=torch.from_numpy(batch.coords),
        origin=torch.from_numpy(batch.origin),
        pair_voxel=_cat([s.pair_voxel + first_voxel[i] for i, s in enumerate(samples)]),
        pair_image=_cat([s.pairs.camera.astype(np.int64) + first_image[i] for i, s in enumerate(samples)]),
        pair_uv=_cat([s.pairs.uv for s in samples]),
        pair_depth=_cat([s.pairs.depth for s in samples]),
        segments=_cat([s.segments.astype(np.int32) for s in samples]),
        pixels=torch.from_numpy(pixels),
        intrinsics=_cat([s.frame.intrinsics for s in samples]).float(),
        lidar_from_camera=torch.from_numpy(inverse(camera_from_lidar)).float(),
        ego_from_camera=_cat([s.frame.ego_from_camera for s in samples]).float(),
        aug_from_image=_cat([s.aug_from_image for s in samples]).float(),
        aug_from_lidar=torch.from_numpy(np.stack([s.aug_from_lidar for s in samples])).float(),
    )


def _cat(arrays: list[NDArray[np.generic]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))
