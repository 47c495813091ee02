"""Augmentations: what is drawn, and that pixels land where the matrix says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hvd.config import parse
from hvd.datasets.augment import draw_image_matrix, draw_point_matrix, drop_cuboid, resize_only, warp_image, warp_labels
from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.datasets.nuscenes import open_nuscenes
from hvd.errors import UsageError
from hvd.geometry.camera import Pairs, crop, flip, resize, warp

WIDTH, HEIGHT = 160, 90
OUT = (64, 36)


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_no_point_augmentation_is_the_identity() -> None:
    assert (draw_point_matrix(PointAugmentation(), np.random.default_rng(0)) == np.eye(4)).all()


def test_point_matrices_are_similarities_within_their_limits() -> None:
    config = PointAugmentation(rotation_deg=22.5, shift_std_m=0.5, scale=(0.9, 1.1), flip=True)
    drawn = np.stack([draw_point_matrix(config, rng) for rng in rngs(400)])
    linear = drawn[:, :3, :3]
    scale = np.cbrt(np.abs(np.linalg.det(linear)))
    assert scale.min() > 0.9
    assert scale.max() < 1.1
    unit = linear / scale[:, None, None]
    np.testing.assert_allclose(unit @ unit.transpose(0, 2, 1), np.broadcast_to(np.eye(3), unit.shape), atol=1e-12)
    np.testing.assert_allclose(unit[:, 2], np.broadcast_to([0, 0, 1], (400, 3)), atol=1e-12)
    signs = np.sign(unit[:, [0, 1], [0, 1]])  # the cosine is positive below 90 degrees, so these are the mirrors
    assert {tuple(pair) for pair in signs.tolist()} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    angle = np.degrees(np.arccos(np.clip(np.abs(unit[:, 0, 0]), 0, 1)))
    assert 20 < angle.max() <= 22.5
    np.testing.assert_allclose(drawn[:, :3, 3].std(axis=0), 0.5, rtol=0.15)


def test_image_matrices_are_crops_of_the_image() -> None:
    config = ImageAugmentation(scale=(0.3, 1.0), ratio=(14 / 9, 17 / 9), flip=0.5)
    flips = 0
    for rng in rngs(200):
        aug_from_image = draw_image_matrix(config, rng, WIDTH, HEIGHT, *OUT)
        corners = warp(np.linalg.inv(aug_from_image), np.array([[-0.5, -0.5], [OUT[0] - 0.5, OUT[1] - 0.5]]))
        assert (corners >= -0.5 - 1e-9).all()
        assert (corners <= np.array([WIDTH, HEIGHT]) - 0.5 + 1e-9).all()
        width, height = np.abs(corners[1] - corners[0])
        assert 0.3 - 1e-9 <= width * height / (WIDTH * HEIGHT) <= 1.0 + 1e-9
        assert 14 / 9 - 1e-9 <= width / height <= 17 / 9 + 1e-9
        flips += aug_from_image[0, 0] < 0
    assert 70 < flips < 130


def test_no_crop_fits() -> None:
    config = ImageAugmentation(scale=(1.0, 1.0), ratio=(9.0, 9.0), flip=0.0)
    drawn = draw_image_matrix(config, np.random.default_rng(0), WIDTH, HEIGHT, *OUT)
    np.testing.assert_allclose(drawn, resize_only(WIDTH, HEIGHT, *OUT))


@pytest.mark.parametrize("field", ["scale", "ratio"])
@pytest.mark.parametrize("ends", [(2.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (1.0,)])
def test_bad_ranges(field: str, ends: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=rf"bad value for {field}"):
        parse(ImageAugmentation, {field: ends})


def blob(u: float, v: float, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """An image with a soft white dot centred at (u, v)."""
    x, y = np.meshgrid(np.arange(width) - u, np.arange(height) - v)
    return np.repeat(255 * np.exp(-(x**2 + y**2) / 10)[..., None], 3, axis=2).astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    """(u, v) of the light."""
    weight = image[..., 0].astype(np.float64)
    x, y = np.meshgrid(np.arange(image.shape[1]), np.arange(image.shape[0]))
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


MATRICES = {
    "shrink": resize_only(WIDTH, HEIGHT, *OUT),
    "flip": flip(OUT[0]) @ resize_only(WIDTH, HEIGHT, *OUT),
    "same size": np.eye(3),
    "crop": resize(OUT[0] / 96.5, OUT[1] / 54.25) @ crop(31.3, 20.7),
    "flipped crop": flip(OUT[0]) @ resize(OUT[0] / 96.5, OUT[1] / 54.25) @ crop(31.3, 20.7),
    "enlarge": resize(OUT[0] / 40, OUT[1] / 22) @ crop(60.0, 35.0),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_bright_dot_lands_where_the_matrix_says(name: str) -> None:
    for u, v in [(80.0, 45.0), (74.3, 47.9), (82.6, 43.2)]:
        size = (WIDTH, HEIGHT) if name == "same size" else OUT
        warped = warp_image(blob(u, v), MATRICES[name], *size)
        assert warped.shape == (size[1], size[0], 3)
        np.testing.assert_allclose(centroid(warped), warp(MATRICES[name], np.array([[u, v]]))[0], atol=0.03)


def test_identity_changes_nothing(real_data: Callable[[str], Path]) -> None:
    data = open_nuscenes(real_data("nuscenes"), "v1.0-mini")
    image = data.read_image(data.samples[0].cameras[0])
    np.testing.assert_array_equal(warp_image(image, np.eye(3), 1600, 900), image)
    np.testing.assert_array_equal(warp_image(image, flip(1600), 1600, 900), image[:, ::-1])


@pytest.mark.parametrize(
    "matrix",
    [crop(-1.0, 0.0), crop(2.0, 0.0), resize(0.5, 0.5), np.array([[1.0, 0.1, 0], [0, 1, 0], [0, 0, 1]]), -np.eye(3)],
)
def test_a_matrix_that_leaves_the_image(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="inside"):
        warp_image(blob(80, 45), matrix, WIDTH, HEIGHT)


def test_labels_are_resampled_to_the_nearest() -> None:
    labels = np.arange(36 * 64, dtype=np.uint16).reshape(36, 64)
    np.testing.assert_array_equal(warp_labels(labels, np.eye(3), 64, 36), labels)
    np.testing.assert_array_equal(warp_labels(labels, flip(64), 64, 36), labels[:, ::-1])
    np.testing.assert_array_equal(warp_labels(labels, crop(5, 3), 20, 10), labels[3:13, 5:25])
    doubled = warp_labels(labels, resize(2, 2), 128, 72)
    np.testing.assert_array_equal(doubled, labels.repeat(2, axis=0).repeat(2, axis=1))
    assert doubled.dtype == np.uint16


def test_labels_follow_the_image() -> None:
    """A dot's label, under a draw that is given in pixels of the original image."""
    resized_from_image = resize_only(WIDTH, HEIGHT, *OUT)
    for rng in rngs(20):
        aug_from_image = draw_image_matrix(ImageAugmentation(), rng, WIDTH, HEIGHT, *OUT)
        centre = warp(np.linalg.inv(aug_from_image), np.array([[32.0, 18.0]]))
        column, row = np.rint(warp(resized_from_image, centre)[0]).astype(int)
        labels = np.zeros((OUT[1], OUT[0]), np.uint16)
        labels[row, column] = 7
        warped = warp_labels(labels, aug_from_image @ np.linalg.inv(resized_from_image), *OUT)
        assert warped[18, 32] == 7


def sweep(rng: np.random.Generator, count: int = 4000) -> tuple[np.ndarray, Pairs]:
    points = rng.uniform(-50, 50, (count, 3)).astype(np.float32)
    camera = (np.arange(count) % 2).astype(np.uint8)
    return points, Pairs(np.arange(count, dtype=np.int32), camera, np.zeros((count, 2), np.float32), camera * 0.0)


def test_a_cuboid_is_cut_out() -> None:
    shares = []
    for rng in rngs(60):
        points, pairs = sweep(rng)
        keep = drop_cuboid(points, pairs, 0.4, rng, min_pairs=10)
        cut = points[~keep]
        assert len(cut) >= 1
        low, high = cut.min(axis=0), cut.max(axis=0)
        assert (high - low <= 0.4 * np.ptp(points, axis=0)).all()
        inside = ((points >= low) & (points <= high)).all(axis=1)
        np.testing.assert_array_equal(inside, ~keep)
        shares.append(np.ptp(cut, axis=0).max() / 100)
    assert max(shares) > 0.3


def test_no_cut_where_a_camera_would_keep_too_few() -> None:
    rng = np.random.default_rng(0)
    points, pairs = sweep(rng)
    assert drop_cuboid(points, pairs, 1.0, rng, min_pairs=2000).all()
    assert not drop_cuboid(points, pairs, 1.0, rng, min_pairs=0).all()
    assert drop_cuboid(np.full((3, 3), np.nan), Pairs(*[np.empty(0, np.uint8)] * 4), 1.0, rng).all()
