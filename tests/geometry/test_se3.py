"""Transforms against pyquaternion and homogeneous coordinates."""

import numpy as np
import pytest
import torch
from pyquaternion import Quaternion

from hvd.geometry.se3 import from_quaternion, inverse, transform


def random_pose(rng: np.random.Generator) -> np.ndarray:
    quaternion = rng.normal(size=4)
    return from_quaternion(quaternion / np.linalg.norm(quaternion), rng.normal(size=3) * 50)


def test_rotation_equals_pyquaternion() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        quaternion = rng.normal(size=4)
        quaternion /= np.linalg.norm(quaternion)
        pose = from_quaternion(quaternion, [1, 2, 3])
        np.testing.assert_allclose(pose[:3, :3], Quaternion(quaternion).rotation_matrix, atol=1e-14)
        assert pose[:3, 3].tolist() == [1, 2, 3]
        assert pose[3].tolist() == [0, 0, 0, 1]


def test_quarter_turn_about_z() -> None:
    half = np.sqrt(0.5)
    moved = transform(from_quaternion([half, 0, 0, half], [10, 0, 0]), np.array([[1.0, 0.0, 5.0]]))
    np.testing.assert_allclose(moved, [[10, 1, 5]], atol=1e-12)


@pytest.mark.parametrize(
    ("rotation", "translation"),
    [
        ([1.0, 1.0, 0.0, 0.0], [0, 0, 0]),
        ([0.0, 0.0, 0.0, 0.0], [0, 0, 0]),
        ([1.01, 0.0, 0.0, 0.0], [0, 0, 0]),
        ([np.nan, 0.0, 0.0, 0.0], [0, 0, 0]),
        ([1.0, 0.0, 0.0, 0.0], [0, np.inf, 0]),
        ([1.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_not_a_pose(rotation: list[float], translation: list[float]) -> None:
    with pytest.raises(ValueError, match=r"quaternion|numbers"):
        from_quaternion(rotation, translation)


def test_inverse_and_transform_agree_with_homogeneous_coordinates() -> None:
    rng = np.random.default_rng(1)
    poses = np.stack([random_pose(rng) for _ in range(5)])
    points = rng.normal(size=(5, 7, 3)) * 30
    homogeneous = np.concatenate([points, np.ones((5, 7, 1))], axis=2)
    moved = transform(poses, points)
    np.testing.assert_allclose(moved, np.einsum("bij,bnj->bni", poses, homogeneous)[..., :3], atol=1e-12)
    np.testing.assert_allclose(transform(inverse(poses), moved), points, atol=1e-11)


def test_torch_gives_the_same() -> None:
    rng = np.random.default_rng(2)
    poses, points = np.stack([random_pose(rng) for _ in range(3)]), rng.normal(size=(3, 4, 3))
    from_torch = transform(inverse(torch.from_numpy(poses)), torch.from_numpy(points))
    np.testing.assert_allclose(from_torch.numpy(), transform(inverse(poses), points), atol=1e-11)
