"""Ray casting. The only file that imports embreex (Embree 4).

Standing and moving triangles live in two Embree scenes, so that each time stamp rebuilds only the small one.
"""

from dataclasses import dataclass, fields

import numpy as np
from embreex.mesh_construction import TriangleMesh  # noqa: TID251  this is the one file
from embreex.rtcore_scene import EmbreeScene  # noqa: TID251
from numpy.typing import NDArray

from hvd.world.mesh import F32, Mesh, join

# columns of Attributes.row: texture coordinates of corner 0 and the steps to corners 1 and 2; colours at mix 0 and 1;
# reflectivity of both, gloss and range noise; unit normal; texture repeats per metre
UV, STEP_1, STEP_2 = slice(0, 2), slice(2, 4), slice(4, 6)
COLOUR_0, COLOUR_1, ECHO = slice(6, 9), slice(9, 12), slice(12, 16)
NORMAL, DENSITY = slice(16, 19), 19
_EPSILON_M = 0.01  # shadow rays start this far from their surface


@dataclass(frozen=True)
class Attributes:
    """Triangle attributes laid out for gathering by hit; one row a triangle."""

    row: F32  # (T, 20), its columns named above
    texture: NDArray[np.int32]  # (T,)
    kind: NDArray[np.uint8]  # (T,)
    instance: NDArray[np.int32]  # (T,)


@dataclass(frozen=True)
class Hits:
    """What rays met; `triangle` is -1 where they met nothing."""

    triangle: NDArray[np.int32]  # (R,)
    distance: F32  # (R,) along the unit direction, metres
    u: F32  # (R,) barycentric coordinates of corners 1 and 2
    v: F32

    def at(self, rays: NDArray[np.int64]) -> "Hits":
        """The hits of some rays."""
        return Hits(self.triangle[rays], self.distance[rays], self.u[rays], self.v[rays])


class Body:
    """An Embree scene of one mesh."""

    def __init__(self, mesh: Mesh, instance: NDArray[np.int32]) -> None:
        self.attributes = _attributes(mesh, instance)
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(mesh.corner))

    def cast(self, origin: F32, direction: F32) -> Hits:
        """First hits of (R, 3) rays."""
        hit = self._scene.run(origin, direction, output=True)
        return Hits(hit["primID"], hit["tfar"], hit["u"], hit["v"])

    def blocks(self, origin: F32, direction: F32) -> NDArray[np.bool_]:
        """Whether anything lies on each of (R, 3) rays."""
        return np.asarray(self._scene.run(origin, direction, query="OCCLUDED") != -1)


class Stage:
    """Standing and moving triangles at one moment, as one set of triangles: the moving ones are numbered last."""

    def __init__(self, standing: Body, moving: Body | None) -> None:
        self._standing, self._moving = standing, moving
        self._first_moving = len(standing.attributes.kind)
        self.attributes = standing.attributes if moving is None else _stacked(standing.attributes, moving.attributes)

    def cast(self, origin: F32, direction: F32) -> Hits:
        """First hits of (R, 3) rays with unit directions, in metres."""
        hits = self._standing.cast(origin, direction)
        if self._moving is None:
            return hits
        other = self._moving.cast(origin, direction)
        nearer = (other.triangle >= 0) & ((hits.triangle < 0) | (other.distance < hits.distance))
        return Hits(
            triangle=np.where(nearer, other.triangle + self._first_moving, hits.triangle).astype(np.int32),
            distance=np.where(nearer, other.distance, hits.distance),
            u=np.where(nearer, other.u, hits.u),
            v=np.where(nearer, other.v, hits.v),
        )

    def lit(self, place: F32, normal: F32, sun: F32) -> NDArray[np.bool_]:
        """Whether the sun (unit vector towards it) reaches places whose normals face the viewer."""
        lit = normal @ sun > 0
        facing = np.flatnonzero(lit)
        start = place[facing] + _EPSILON_M * normal[facing]
        direction = np.broadcast_to(sun, start.shape).astype(np.float32)
        blocked = self._standing.blocks(start, direction)
        if self._moving is not None:
            blocked |= self._moving.blocks(start, direction)
        lit[facing] = ~blocked
        return lit


def _attributes(mesh: Mesh, instance: NDArray[np.int32]) -> Attributes:
    edge1, edge2 = mesh.corner[:, 1] - mesh.corner[:, 0], mesh.corner[:, 2] - mesh.corner[:, 0]
    normal = np.cross(edge1, edge2)
    area = np.linalg.norm(normal, axis=-1)
    step1, step2 = mesh.uv[:, 1] - mesh.uv[:, 0], mesh.uv[:, 2] - mesh.uv[:, 0]
    uv_area = np.abs(step1[:, 0] * step2[:, 1] - step1[:, 1] * step2[:, 0])
    density = np.sqrt(uv_area / np.maximum(area, 1e-9))
    unit = normal / np.maximum(area, 1e-12)[:, None]
    row = [mesh.uv[:, 0], step1, step2, mesh.look[:, 2:], unit, density[:, None]]
    return Attributes(np.concatenate(row, 1).astype(np.float32), mesh.texture, mesh.kind, instance)


def _stacked(one: Attributes, two: Attributes) -> Attributes:
    return Attributes(*(np.concatenate([getattr(one, f.name), getattr(two, f.name)]) for f in fields(Attributes)))


def body(parts: list[tuple[int, Mesh]]) -> Body:
    """An Embree scene of meshes with their instance numbers (0: none)."""
    counts = [len(mesh) for _, mesh in parts]
    instance = np.repeat(np.array([number for number, _ in parts], dtype=np.int32), counts)
    return Body(join(mesh for _, mesh in parts), instance)
