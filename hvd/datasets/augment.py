"""Augmentation: parameters are drawn once, as a matrix, and applied to every modality by pure functions."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.geometry.camera import Pairs, crop, flip, resize
from hvd.geometry.se3 import Float64, inverse

_CROP_ATTEMPTS = 10


def draw_point_matrix(config: PointAugmentation, rng: np.random.Generator) -> Float64:
    """Draw aug_from_lidar (4, 4): rotation about z, then mirroring, scale and shift."""
    limit = math.radians(config.rotation_deg)
    angle = rng.uniform(-limit, limit)
    mirror = np.where(rng.random(2) < 0.5, -1.0, 1.0) if config.flip else np.ones(2)
    scale = rng.uniform(*config.scale)
    aug_from_lidar = np.eye(4)
    aug_from_lidar[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    aug_from_lidar[:2] *= mirror[:, None]
    aug_from_lidar[:3] *= scale
    aug_from_lidar[:3, 3] = rng.normal(0.0, 1.0, 3) * config.shift_std_m
    return aug_from_lidar


def resize_only(width: int, height: int, out_width: int, out_height: int) -> Float64:
    """aug_from_image (3, 3) of a plain resize."""
    return resize(out_width / width, out_height / height)


def draw_image_matrix(
    config: ImageAugmentation, rng: np.random.Generator, width: int, height: int, out_width: int, out_height: int
) -> Float64:
    """Draw aug_from_image (3, 3) of a crop that is resized to (out_width, out_height) and perhaps mirrored."""
    left, top, crop_width, crop_height = _draw_crop(config, rng, width, height)
    aug_from_image = resize(out_width / crop_width, out_height / crop_height) @ crop(left, top)
    return flip(out_width) @ aug_from_image if rng.random() < config.flip else aug_from_image


def _draw_crop(
    config: ImageAugmentation, rng: np.random.Generator, width: int, height: int
) -> tuple[float, float, float, float]:
    """left, top, width, height of a crop inside the image; when none fits, the whole image."""
    low, high = np.log(config.ratio)
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * rng.uniform(*config.scale)
        ratio = math.exp(rng.uniform(low, high))
        crop_width, crop_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if crop_width <= width and crop_height <= height:
            return rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height), crop_width, crop_height
    return 0.0, 0.0, float(width), float(height)


def drop_cuboid(
    points: NDArray[Any], pairs: Pairs, share: float, rng: np.random.Generator, min_pairs: int = 1024
) -> NDArray[np.bool_]:
    """Cut a random cuboid out of a sweep (DepthContrast, arXiv 2101.02691, as SLidR uses it).

    Args:
        points: (N, 3) metres.
        pairs: what the cameras see of them.
        share: largest side of the cuboid, as a share of the sweep's extent along each axis.
        rng: draws the side and the centre.
        min_pairs: the cut is not made if it leaves a camera that pairs with fewer than this.

    Returns:
        keep (N,).
    """
    keep = np.ones(len(points), dtype=np.bool_)
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    half_share = rng.uniform(0.0, share) / 2
    if not len(finite):
        return keep
    centre = points[rng.choice(finite)]
    half = half_share * np.ptp(points[finite], axis=0)
    outside = ~(np.abs(points - centre) < half).all(axis=1)
    left = np.bincount(pairs.camera[outside[pairs.point]], minlength=256)
    seeing = np.bincount(pairs.camera, minlength=256) > 0
    return outside if (left[seeing] >= min_pairs).all() else keep


def warp_image(image: NDArray[np.uint8], aug_from_image: Float64, out_width: int, out_height: int) -> NDArray[np.uint8]:
    """Resample an image (H, W, 3) bilinearly, smoothed where it shrinks.

    A pixel's centre lands where `hvd.geometry.camera.warp` says.

    Raises:
        ValueError: the matrix is no crop, resize and mirror inside the image.
    """
    height, width = image.shape[:2]
    left, right = _source_interval(aug_from_image[0, [0, 2]], out_width)
    top, bottom = _source_interval(aug_from_image[1, [1, 2]], out_height)
    mirrored = left > right
    box = (min(left, right), top, max(left, right), bottom)
    outside = max(-box[0], -box[1], box[2] - width, box[3] - height)
    if aug_from_image[0, 1] or aug_from_image[1, 0] or bottom <= top or outside > 1e-6 * max(width, height):
        raise ValueError(f"no crop, resize and mirror inside {width}x{height}: box {box}")
    inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
    resampled = Image.fromarray(image).resize((out_width, out_height), Image.Resampling.BILINEAR, box=inside)
    return np.array(resampled.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else resampled)


def _source_interval(scale_offset: Float64, out_size: int) -> tuple[float, float]:
    """Where the edges 0 and out_size of the output lie in the source, counted so that a pixel's centre is at +0.5."""
    scale, offset = scale_offset
    edge = offset + 0.5 - 0.5 * scale  # u' = scale u + offset about centres, so x' = scale x + edge about edges
    return float(-edge / scale), float((out_size - edge) / scale)


def warp_labels(labels: NDArray[Any], aug_from_labels: Float64, out_width: int, out_height: int) -> NDArray[Any]:
    """Resample labels (h, w), superpixels say, to the nearest; aug_from_labels (3, 3) is axis-aligned.

    For labels that lie on a resized image: aug_from_labels = aug_from_image @ inv(resized_from_image).
    """
    labels_from_aug = inverse(aug_from_labels)
    column = _nearest(labels_from_aug[0, [0, 2]], out_width, labels.shape[1])
    row = _nearest(labels_from_aug[1, [1, 2]], out_height, labels.shape[0])
    resampled: NDArray[Any] = labels[row[:, None], column]
    return resampled


def _nearest(scale_offset: Float64, out_size: int, size: int) -> NDArray[np.intp]:
    scale, offset = scale_offset
    place = np.floor(np.arange(out_size) * scale + offset + 0.5)
    return np.asarray(np.clip(place, 0, size - 1), dtype=np.intp)
