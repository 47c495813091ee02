"""Triangle soups with texture coordinates, and the primitives that all assets are built of.

Letters: T triangles, Q quads, n corners of a polygon. Lengths in metres; local frames have x forward, y left, z up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvd.geometry.se3 import transform
from hvd.world.kinds import Kind
from hvd.world.materials import Surface

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """Triangles and what each needs for a picture and for an echo."""

    corner: F32  # (T, 3, 3) metres
    uv: F32  # (T, 3, 2) texture repeats
    look: F32  # (T, 12) kind, texture layer, colours at mix 0 and 1 (6), echo (4): one array, as thousands are joined

    def __len__(self) -> int:
        return len(self.corner)

    @property
    def kind(self) -> NDArray[np.uint8]:
        """(T,) Kind of each triangle."""
        return self.look[:, 0].astype(np.uint8)

    @property
    def texture(self) -> NDArray[np.int32]:
        """(T,) layer of the atlas."""
        return self.look[:, 1].astype(np.int32)


def join(meshes: Iterable[Mesh]) -> Mesh:
    """One mesh of several, in order."""
    parts = list(meshes)
    return Mesh(
        np.concatenate([part.corner for part in parts]),
        np.concatenate([part.uv for part in parts]),
        np.concatenate([part.look for part in parts]),
    )


def labelled(kind: Kind, *meshes: Mesh) -> Mesh:
    """The meshes joined, every triangle of one kind."""
    return with_kinds(join(meshes), kind)


def with_kinds(mesh: Mesh, kind: ArrayLike) -> Mesh:
    """The mesh with its kinds replaced, by one or by one a triangle."""
    look = mesh.look.copy()
    look[:, 0] = kind
    return replace(mesh, look=look)


def placed(mesh: Mesh, world_from_local: ArrayLike) -> Mesh:
    """The mesh moved by a (4, 4) transform (its texture coordinates stay)."""
    matrix: NDArray[Any] = np.asarray(world_from_local, dtype=np.float64)
    corner: NDArray[Any] = transform(matrix, mesh.corner)
    return replace(mesh, corner=corner.astype(np.float32))


def moved(mesh: Mesh, x: float = 0.0, y: float = 0.0, z: float = 0.0, *, yaw: float = 0.0) -> Mesh:
    """The mesh turned about z (radians), then shifted."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(yaw)
    matrix[:3, 3] = x, y, z
    return placed(mesh, matrix)


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> F64:
    """(3, 3) turn about x by `roll`, then y by `pitch`, then z by `yaw`, in radians."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    return np.asarray(about_z @ about_y @ about_x)


def triangles(corner: ArrayLike, uv_metres: NDArray[np.floating[Any]], surface: Surface) -> Mesh:
    """A mesh of (T, 3, 3) corners with (T, 3, 2) surface coordinates in metres."""
    corner = np.asarray(corner, dtype=np.float32)
    uv = (uv_metres / np.asarray(surface.tile)).astype(np.float32)
    return Mesh(corner, uv, np.repeat(surface.look[None], len(corner), axis=0))


_SPLIT = np.array([0, 1, 2, 0, 2, 3])  # corners of a quad's two triangles
_UNIT = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def quads(corner: ArrayLike, surface: Surface, uv_metres: ArrayLike | None = None) -> Mesh:
    """(Q, 4, 3) corners, counter-clockwise from outside; u runs along the first edge, v along the last."""
    corner = np.asarray(corner, dtype=np.float64)
    if uv_metres is None:
        edges = corner[:, [1, 3]] - corner[:, :1]
        uv_metres = _UNIT * np.sqrt((edges * edges).sum(-1))[:, None]
    uv = np.asarray(uv_metres)[:, _SPLIT].reshape(-1, 3, 2)
    return triangles(corner[:, _SPLIT].reshape(-1, 3, 3), uv, surface)


def sheet(corner: ArrayLike, surface: Surface) -> Mesh:
    """One quad (4, 3), textured from 0 to 1 along both edges whatever its size."""
    return quads(np.asarray(corner)[None], surface, _UNIT[None] * surface.tile)


_CUBE = np.array([[x, y, z] for z in (0, 1) for y in (-0.5, 0.5) for x in (-0.5, 0.5)], dtype=np.float64)
# right, left, front, back, top, bottom; from outside the first edge runs to the right and the last one up
_FACES = np.array([[0, 1, 5, 4], [3, 2, 6, 7], [1, 3, 7, 5], [2, 0, 4, 6], [4, 5, 7, 6], [2, 3, 1, 0]])


def box(size: Sequence[float], at: Sequence[float], surface: Surface, top: Sequence[float] = (1.0, 1.0)) -> Mesh:
    """A box of (length, width, height) standing on `at`, its upper face scaled by `top` in x and y."""
    corner = _CUBE * np.asarray(size)
    corner[4:, :2] *= top
    return quads((corner + np.asarray(at))[_FACES], surface)


def _cross(a: F64, b: F64) -> F64:
    """Cross product of two 3-vectors (numpy's own takes ten times as long on one pair)."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def _unit(vector: F64) -> F64:
    return np.asarray(vector / np.sqrt(vector @ vector))


@cache
def _after(count: int) -> NDArray[np.int64]:
    """Index of the next corner around a polygon."""
    return np.roll(np.arange(count), -1)


def _newell(corner: F64) -> F64:
    """Unit normal of a flat polygon (n, 3), also when its first corners are in line."""
    after = corner[_after(len(corner))]
    less, more = corner - after, corner + after
    return _unit(np.array([less[:, 1] @ more[:, 2], less[:, 2] @ more[:, 0], less[:, 0] @ more[:, 1]]))


def polygon(corner: ArrayLike, surface: Surface, *, fit: bool = False) -> Mesh:
    """A flat star-shaped polygon (n, 3), fanned out from its mean corner; `fit` spans the texture over it once."""
    corner = np.asarray(corner, dtype=np.float64)
    fan = np.empty((len(corner), 3, 3))
    fan[:, 0], fan[:, 1], fan[:, 2] = corner.mean(0), corner, corner[_after(len(corner))]
    across = _unit(corner[1] - corner[0])
    uv = (fan - corner[0]) @ np.stack([across, _cross(_newell(corner), across)], -1)
    if fit:
        low, high = uv.min((0, 1)), uv.max((0, 1))
        uv = (uv - low) / (high - low) * surface.tile
    return triangles(fan, uv, surface)


def prism(
    profile: ArrayLike,
    width: float,
    side: Surface,
    rim: Surface | Sequence[Surface] | None = None,
    taper: float = 1.0,
    *,
    fit: bool = False,
) -> Mesh:
    """A side view (n, 2) of (x, z), counter-clockwise seen from the right, extruded in y, its top narrowed to `taper`.

    `rim` may give one surface for each edge of the profile; `fit` spans the side's texture over it once.
    """
    profile = np.asarray(profile, dtype=np.float64)
    low, high = profile[:, 1].min(), profile[:, 1].max()
    half = 0.5 * width * (1 + (taper - 1) * (profile[:, 1] - low) / max(high - low, 1e-6))
    right = np.stack([profile[:, 0], -half, profile[:, 1]], -1)
    left = right * [1, -1, 1]
    after = _after(len(profile))
    strip = np.stack([right[after], right, left, left[after]], 1)
    if isinstance(rim, Sequence):
        edges = [quads(face[None], surface) for face, surface in zip(strip, rim, strict=True)]
    else:
        edges = [quads(strip, rim or side)]
    return join([polygon(right, side, fit=fit), polygon(left[::-1], side, fit=fit), *edges])


@cache
def _ring(sides: int, caps: bool) -> tuple[F64, F64]:
    """Template of a tube: corners (T, 3, 3) as (cosine, sine, share of the length) and (T, 3) shares of the turn.

    The middle of a cap has cosine and sine 0.
    """
    angle = np.arange(sides + 1) / sides
    circle = np.stack([np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle), np.zeros(sides + 1), angle], -1)
    up = np.array([0.0, 0.0, 1.0, 0.0])
    low, high = circle, circle + up
    faces = [np.stack([low[:-1], low[1:], high[1:], high[:-1]], 1)[:, _SPLIT].reshape(-1, 3, 4)]
    if caps:
        zero = np.zeros((sides, 4))
        faces += [np.stack([zero, low[1:], low[:-1]], 1), np.stack([zero + up, high[:-1], high[1:]], 1)]
    template = np.concatenate(faces)
    return template[..., :3], template[..., 3]


def tube(
    start: ArrayLike,
    end: ArrayLike,
    radius: float,
    surface: Surface,
    *,
    end_radius: float | None = None,
    sides: int = 6,
    caps: bool = False,
) -> Mesh:
    """A (tapering) cylinder between two points; u runs around, v along."""
    ends = np.array([start, end], dtype=np.float64)
    return _tubes(ends[:1], ends[1:], radius, surface, radius if end_radius is None else end_radius, sides, caps)


def bent_tube(points: ArrayLike, radius: float, surface: Surface, sides: int = 4) -> Mesh:
    """Open cylinders from point to point (n, 3)."""
    points = np.asarray(points, dtype=np.float64)
    return _tubes(points[:-1], points[1:], radius, surface, radius, sides, caps=False)


def _tubes(start: F64, end: F64, radius: float, surface: Surface, end_radius: float, sides: int, caps: bool) -> Mesh:
    """Cylinders between (n, 3) starts and ends."""
    shape, turn = _ring(sides, caps)
    axis = end - start
    length = np.sqrt((axis * axis).sum(-1, keepdims=True))
    unit = axis / length
    helper = np.where(np.abs(unit[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    across = _crosses(unit, helper)
    across /= np.sqrt((across * across).sum(-1, keepdims=True))
    frame = np.stack([across, _crosses(unit, across)], 1)  # (n, 2, 3)
    along = shape[..., 2:]
    swell = radius + (end_radius - radius) * along
    corner = start[:, None, None] + along * axis[:, None, None] + swell * (shape[..., :2] @ frame[:, None])
    uv = np.empty((*corner.shape[:-1], 2))
    uv[..., 0], uv[..., 1] = turn * (2 * np.pi * radius), shape[..., 2] * length[:, None]
    return triangles(corner.reshape(-1, 3, 3), uv.reshape(-1, 3, 2), surface)


def _crosses(a: F64, b: F64) -> F64:
    """Cross products of (n, 3) vectors."""
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


@cache
def _sphere(rings: int, sides: int) -> tuple[F64, F64]:
    """Unit vectors (rings + 1, sides + 1, 3) of a globe's grid, and their angles (2) around and up."""
    polar, angle = np.linspace(0, np.pi, rings + 1)[:, None], np.linspace(0, 2 * np.pi, sides + 1)[None]
    unit = np.broadcast_arrays(np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), -np.cos(polar))
    return np.stack(unit, -1), np.stack(np.broadcast_arrays(angle, polar), -1)


def blob(
    radii: ArrayLike,
    at: ArrayLike,
    surface: Surface,
    rng: np.random.Generator | None = None,
    roughness: float = 0.0,
    rings: int = 5,
    sides: int = 8,
) -> Mesh:
    """A closed ellipsoid about `at`, its corners displaced at random by a share `roughness` of the radius."""
    unit, angles = _sphere(rings, sides)
    if rng is not None:
        scale = 1 + roughness * rng.uniform(-1, 1, unit.shape[:2])
        scale[:, -1], scale[[0, -1]] = scale[:, 0], scale[[0, -1], :1]
        unit = unit * scale[..., None]
    radii = np.asarray(radii)
    return quads(_patches(unit * radii + np.asarray(at)), surface, _patches(angles * radii.mean()))


def _patches(grid: F64) -> F64:
    """(R, C, n) grid -> ((R - 1) (C - 1), 4, n) corners of its cells."""
    corners = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], 2)
    return np.asarray(corners.reshape(-1, 4, grid.shape[-1]))


def repeated(mesh: Mesh, offsets: ArrayLike) -> Mesh:
    """Copies of a mesh shifted by (n, 3)."""
    offsets = np.asarray(offsets, dtype=np.float32)
    corner = (mesh.corner[None] + offsets[:, None, None]).reshape(-1, 3, 3)
    return Mesh(corner, np.concatenate([mesh.uv] * len(offsets)), np.concatenate([mesh.look] * len(offsets)))


def leaves(
    at: ArrayLike, radii: ArrayLike, count: int, size: float, surface: Surface, rng: np.random.Generator
) -> Mesh:
    """`count` small random triangles in an ellipsoid, denser near its surface: foliage that rays can pass."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    radius = rng.uniform(0.3, 1.0, (count, 1)) ** 0.5
    middle = np.asarray(at) + direction * radius * np.asarray(radii)
    spread = rng.normal(size=(count, 3, 3)) * (size / 1.7)
    uv = rng.uniform(0, 4, (count, 1, 2)) + np.array([[0, 0], [1, 0], [0, 1]]) * size
    return triangles(middle[:, None] + spread, uv, surface)
