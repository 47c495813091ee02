"""The property that distillation stands on: project a point, lift it at its own depth, and it is back in its own place.

Under every augmentation of points and images, and in float32 as the networks compute.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hvd.datasets.augment import draw_image_matrix, draw_point_matrix, resize_only
from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.geometry.camera import Pairs, flip, lift, pair_points, rays, warp
from hvd.geometry.grid import GridSpec
from hvd.geometry.se3 import inverse, transform
from tests.geometry.rig import Rig, made_up, recorded

BEV = GridSpec((-51.2, -51.2), (51.2, 51.2), (0.4, 0.4))
OUT_WIDTH, OUT_HEIGHT = 416, 224

POINT_AUGMENTATIONS = {
    "none": PointAugmentation(),
    "rotation": PointAugmentation(rotation_deg=180.0),
    "flips": PointAugmentation(flip=True),
    "scale": PointAugmentation(scale=(0.9, 1.1)),
    "shift": PointAugmentation(shift_std_m=0.5),
    "paper": PointAugmentation(rotation_deg=22.5, shift_std_m=0.5, scale=(0.9, 1.1), flip=True),
}
IMAGE_AUGMENTATIONS = {
    "resize": None,
    "crop": ImageAugmentation(flip=0.0),
    "flip": ImageAugmentation(scale=(1.0, 1.0), ratio=(16 / 9, 16 / 9), flip=1.0),
    "paper": ImageAugmentation(flip=0.5),
}
Convert = Callable[[np.ndarray], Any]
CASES = list(itertools.product(POINT_AUGMENTATIONS, IMAGE_AUGMENTATIONS))


@pytest.fixture(params=["made up", "recorded"], scope="module")
def seen(request: pytest.FixtureRequest, real_data: Callable[[str], Path]) -> "Seen":
    rig = made_up() if request.param == "made up" else recorded(real_data("nuscenes"))
    return Seen.of(rig)


@dataclass(frozen=True)
class Seen:
    """A rig's pairs, and beside them the same pixels and depths in float64, by homogeneous coordinates."""

    rig: Rig
    pairs: Pairs
    uv: np.ndarray  # (M, 2)
    depth: np.ndarray  # (M,)

    @staticmethod
    def of(rig: Rig) -> "Seen":
        pairs = pair_points(rig.points, rig.camera_from_lidar, rig.intrinsics, rig.width, rig.height)
        homogeneous = np.c_[rig.points[pairs.point].astype(np.float64), np.ones(len(pairs))]
        in_camera = np.einsum("mij,mj->mi", rig.camera_from_lidar[pairs.camera], homogeneous)[:, :3]
        uvw = np.einsum("mij,mj->mi", rig.intrinsics[pairs.camera], in_camera)
        return Seen(rig, pairs, uvw[:, :2] / uvw[:, 2:], in_camera[:, 2])

    def lifted(self, aug_from_image: np.ndarray, aug_from_lidar: np.ndarray, convert: Convert) -> np.ndarray:
        """Every pixel warped, and lifted at its depth: (M, 3), with all arrays converted first."""
        places = np.empty((len(self.pairs), 3))
        for k, matrix in enumerate(aug_from_image):
            mine = self.pairs.camera == k
            uv = warp(matrix, self.uv[mine])
            lidar_from_camera = inverse(self.rig.camera_from_lidar[k])
            arrays = (uv, self.depth[mine], lidar_from_camera, self.rig.intrinsics[k], matrix, aug_from_lidar)
            places[mine] = np.asarray(lift(*map(convert, arrays)))
        return places


def image_matrix(name: str, rig: Rig, rng: np.random.Generator) -> np.ndarray:
    config = IMAGE_AUGMENTATIONS[name]
    if config is None:
        return resize_only(rig.width, rig.height, OUT_WIDTH, OUT_HEIGHT)
    return draw_image_matrix(config, rng, rig.width, rig.height, OUT_WIDTH, OUT_HEIGHT)


@pytest.mark.parametrize(("point_case", "image_case"), CASES)
def test_round_trip(seen: Seen, point_case: str, image_case: str) -> None:
    rng = np.random.default_rng(CASES.index((point_case, image_case)))
    aug_from_lidar = draw_point_matrix(POINT_AUGMENTATIONS[point_case], rng)
    aug_from_image = np.stack([image_matrix(image_case, seen.rig, rng) for _ in seen.rig.intrinsics])
    truth = transform(aug_from_lidar, seen.rig.points[seen.pairs.point].astype(np.float64))

    assert_same_place(seen.lifted(aug_from_image, aug_from_lidar, np.asarray), truth, 1e-3)
    in_float32 = seen.lifted(aug_from_image, aug_from_lidar, lambda array: torch.from_numpy(array).float())
    assert_same_place(in_float32, truth, 1e-2)


def assert_same_place(lifted: np.ndarray, truth: np.ndarray, tolerance_m: float) -> None:
    """Within the tolerance, and in the same BEV cell unless nearer than that to a cell's border."""
    error = np.linalg.norm(lifted - truth, axis=1)
    assert error.max() < tolerance_m
    to_border = np.abs((truth[:, :2] / 0.4 + 0.5) % 1 - 0.5).min(axis=1) * 0.4
    clear = to_border > tolerance_m
    assert clear.mean() > 0.5
    index, inside = BEV.cells(truth[clear, :2])
    lifted_index, lifted_inside = BEV.cells(lifted[clear, :2])
    np.testing.assert_array_equal(lifted_inside, inside)
    np.testing.assert_array_equal(lifted_index, index)
    assert inside.sum() > 500


def test_a_flip_about_the_wrong_axis_breaks_it() -> None:
    """The release's mistake, height for width: the test above would see it."""
    seen = Seen.of(made_up())
    resized = resize_only(seen.rig.width, seen.rig.height, OUT_WIDTH, OUT_HEIGHT)
    right, wrong = flip(OUT_WIDTH) @ resized, flip(OUT_HEIGHT) @ resized
    mine = seen.pairs.camera == 0
    uv, depth, pose = warp(right, seen.uv[mine]), seen.depth[mine], inverse(seen.rig.camera_from_lidar[0])
    lifted = lift(uv, depth, pose, seen.rig.intrinsics[0], wrong, np.eye(4))
    assert np.median(np.linalg.norm(lifted - seen.rig.points[seen.pairs.point[mine]], axis=1)) > 1.0


def test_rays_are_what_lift_follows() -> None:
    rig = made_up(cameras=2)
    rng = np.random.default_rng(0)
    uv, depth = rng.uniform(0, 200, (2, 9, 2)), rng.uniform(1, 60, (2, 9))
    image = np.stack([image_matrix("paper", rig, rng) for _ in range(2)])
    aug_from_lidar = draw_point_matrix(POINT_AUGMENTATIONS["paper"], rng)
    matrices = inverse(rig.camera_from_lidar), rig.intrinsics, image, aug_from_lidar
    origin, direction = rays(uv, *matrices)
    assert origin.shape == (2, 1, 3)
    np.testing.assert_allclose(origin + depth[..., None] * direction, lift(uv, depth, *matrices))
    tensors = [torch.from_numpy(matrix) for matrix in matrices]
    from_torch = lift(torch.from_numpy(uv), torch.from_numpy(depth), *tensors)
    np.testing.assert_allclose(from_torch.numpy(), lift(uv, depth, *matrices), atol=1e-9)
