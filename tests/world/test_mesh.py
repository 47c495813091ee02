"""Primitives: closed, outward, of the right volume, textured to scale."""

import numpy as np
import pytest

from hvd.world.materials import Surface, paint
from hvd.world.mesh import Mesh, blob, box, leaves, moved, polygon, prism, quads, repeated, rotation, sheet, tube


@pytest.fixture
def surface() -> Surface:
    return paint(np.random.default_rng(0), "train", "paint", tile=(2.0, 0.5))


def _volume(mesh: Mesh) -> float:
    """Signed volume by the divergence theorem: positive if closed and facing outwards."""
    a, b, c = mesh.corner.astype(np.float64).transpose(1, 0, 2)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_volumes(surface: Surface) -> None:
    assert _volume(box((2, 3, 4), (5, -1, 2), surface)) == pytest.approx(24)
    pyramid = box((2, 2, 3), (0, 0, 0), surface, top=(0, 0))
    assert _volume(pyramid) == pytest.approx(4, rel=1e-5)
    wedge = prism([(0, 0), (2, 0), (0, 1)], 3, surface)
    assert _volume(wedge) == pytest.approx(3, rel=1e-5)
    many = 60
    area = many / 2 * np.sin(2 * np.pi / many)  # of a regular polygon in the unit circle
    rod = tube((1, 2, 3), (1, 2, 5), 1.0, surface, sides=many, caps=True)
    assert _volume(rod) == pytest.approx(2 * area, rel=1e-4)
    cone = tube((0, 0, 0), (0, 3, 0), 1.0, surface, end_radius=0.0, sides=many, caps=True)
    assert _volume(cone) == pytest.approx(area, rel=1e-4)
    ball = blob((1, 2, 3), (4, 4, 4), surface, rings=40, sides=40)
    assert _volume(ball) == pytest.approx(4 / 3 * np.pi * 6, rel=0.02)


def test_a_polygon_may_begin_with_corners_in_line(surface: Surface) -> None:
    mesh = polygon([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], surface)
    normal = np.cross(mesh.corner[:, 1] - mesh.corner[:, 0], mesh.corner[:, 2] - mesh.corner[:, 0])
    assert np.linalg.norm(normal, axis=1).sum() / 2 == pytest.approx(4)
    assert (normal[:, 2] > 0).all()


def test_textures_keep_their_scale(surface: Surface) -> None:
    plate = quads([[[0, 0, 0], [6, 0, 0], [6, 0, 2], [0, 0, 2]]], surface)
    assert plate.uv.reshape(-1, 2).max(0).tolist() == [3, 4]  # 6 m / 2 m and 2 m / 0.5 m
    assert sheet([[0, 0, 0], [6, 0, 0], [6, 0, 2], [0, 0, 2]], surface).uv.reshape(-1, 2).max(0).tolist() == [1, 1]
    fitted = polygon([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], surface, fit=True)
    assert np.allclose([fitted.uv.min((0, 1)), fitted.uv.max((0, 1))], [[0, 0], [1, 1]])


def test_moves(surface: Surface) -> None:
    mesh = box((2, 1, 1), (0, 0, 0), surface)
    turned = moved(mesh, 5, 0, 1, yaw=np.pi / 2)
    assert np.allclose(turned.corner.min((0, 1)), [4.5, -1, 1], atol=1e-6)
    assert np.allclose(rotation(0, pitch=0.1) @ [1, 0, 0], [np.cos(0.1), 0, -np.sin(0.1)])  # the nose goes down
    row = repeated(mesh, [(0, 0, 0), (0, 5, 0)])
    assert len(row) == 2 * len(mesh)
    assert _volume(row) == pytest.approx(4)


def test_foliage_lets_rays_pass(surface: Surface) -> None:
    mesh = leaves((0, 0, 0), (2, 2, 2), 50, 0.3, surface, np.random.default_rng(0))
    a, b, c = mesh.corner.transpose(1, 0, 2)
    covered = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert len(mesh) == 50
    assert np.linalg.norm(mesh.corner.mean(1), axis=1).max() < 2.5
    assert covered < np.pi * 4
