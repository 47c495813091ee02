"""KITTI's labels of a moment of a drive, from the things themselves and from rays of the camera.

The conventions of the object benchmark: a box in 3D fits tightly and stands upright in the LiDAR's frame; a box in 2D
spans the thing's outline inside the image, hidden parts included, as KITTI's annotators estimated them. What can't be
told any more becomes a DontCare area. N things, T triangles, R rays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.kitti_files import DONT_CARE, Calibration, Objects
from hvd.geometry.boxes import cut_near, observation_angle, rect_from_lidar_boxes
from hvd.geometry.se3 import inverse, transform
from hvd.world.kinds import Kind
from hvd.world.mesh import F64, Mesh
from hvd.world.raycast import Body, Stage, body
from hvd.world.rigs import Camera
from hvd.world.scene import Scene
from hvd.world.sensors import camera_rays
from hvd.world.site import Thing

# Cones, barriers, and bicycles and motorcycles that stand without a rider have no class in the benchmark.
TYPES = {
    Kind.CAR: "Car",
    Kind.TRUCK: "Truck",
    Kind.BUS: "Misc",
    Kind.TRAILER: "Misc",
    Kind.CONSTRUCTION: "Misc",
    Kind.BICYCLIST: "Cyclist",
    Kind.MOTORCYCLIST: "Cyclist",
    Kind.PEDESTRIAN: "Pedestrian",
}
_VAN_M = 6.3  # a truck no longer than this is a Van

OCCLUSION_LIMITS = (0.1, 0.5, 0.8)
"""Hidden shares of the outline up to which a thing is visible (0), partly (1) and largely occluded (2); beyond: 3."""

_FARTHEST_M = 70.0
_LEAST_HEIGHT_PX = 10.0
_LEAST_VISIBLE = 0.1  # share of the outline
_LEAST_VISIBLE_PX = 30.0  # area
_MOST_RAYS = 64  # along one side of a thing's rectangle
_FEWEST_RAYS = 24
_WIDEST = 5.7  # tangent of 80 degrees: what lies farther off the axis is not counted as outside of the image


class Outline(NamedTuple):
    """What a camera sees of one thing."""

    box: F64  # (4,) left, top, right, bottom of the outline in the image, pixels
    truncation: float  # share of the outline that lies outside of the image
    hidden: float  # share of the outline in the image that other things hide
    visible_px: float  # area in the image that is not hidden
    visible_box: F64  # (4,) around that area


class _Labelled(NamedTuple):
    name: str
    rect: F64  # (7,) `boxes_rect` of hvd.geometry.boxes
    outline: Outline

    @property
    def can_be_told(self) -> bool:
        """Whether an annotator would draw a box around the thing."""
        seen = self.outline
        visible = seen.hidden <= 1 - _LEAST_VISIBLE and seen.visible_px >= _LEAST_VISIBLE_PX
        return visible and seen.box[3] - seen.box[1] >= _LEAST_HEIGHT_PX and bool(self.rect[5] <= _FARTHEST_M)


def annotate(
    scene: Scene, time_s: float, world_from_lidar: F64, camera: Camera, world_from_camera: F64, calibration: Calibration
) -> Objects:
    """The label file of a moment: things in the order of their numbers, DontCare areas last."""
    stage, found = scene.stage(time_s), []
    for thing in scene.things:
        if thing.kind not in TYPES:
            continue
        mesh = thing.mesh_at(scene.street, time_s)
        seen = outline(thing.number, mesh, stage, camera, world_from_camera)
        if seen is not None and seen.visible_px > 0:
            heading = thing.pose(scene.street, time_s)[:3, 0]
            box = tight_box(mesh, heading, world_from_lidar)
            rect = rect_from_lidar_boxes(box[None], calibration.rect_from_lidar)[0]
            found.append(_Labelled(_type(thing, box), rect, seen))
    return _objects([f for f in found if f.can_be_told], [f.outline for f in found if not f.can_be_told])


def _type(thing: Thing, box: F64) -> str:
    return "Van" if thing.kind is Kind.TRUCK and box[3] <= _VAN_M else TYPES[thing.kind]


def tight_box(mesh: Mesh, heading: F64, world_from_lidar: F64) -> F64:
    """The smallest box (7,) of the LiDAR's frame around a mesh that stands upright and heads as said.

    Args:
        mesh: in the world.
        heading: (3,) in the world; what of it points up or down is left out.
        world_from_lidar: (4, 4).
    """
    lidar_from_world = inverse(world_from_lidar)
    x, y, _ = lidar_from_world[:3, :3] @ heading
    yaw = float(np.arctan2(y, x))
    cos, sin = np.cos(yaw), np.sin(yaw)
    box_from_lidar = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    local = transform(lidar_from_world, mesh.corner.reshape(-1, 3).astype(np.float64)) @ box_from_lidar.T
    low, high = local.min(axis=0), local.max(axis=0)
    return np.concatenate([box_from_lidar.T @ ((low + high) / 2), high - low, [yaw]])


def occlusion_level(hidden: float) -> int:
    """KITTI's occlusion 0..3 for the hidden share of an outline."""
    return sum(hidden > limit for limit in OCCLUSION_LIMITS)


def _objects(things: Sequence[_Labelled], areas: Sequence[Outline]) -> Objects:
    seen = [thing.outline for thing in things]
    rect = np.array([thing.rect for thing in things]).reshape(-1, 7)
    nowhere = np.tile([-1.0, -1.0, -1.0, -1000.0, -1000.0, -1000.0, -10.0], (len(areas), 1))
    none = np.full(len(areas), -1.0)
    return Objects(
        types=(*(thing.name for thing in things), *[DONT_CARE] * len(areas)),
        truncation=np.concatenate([[o.truncation for o in seen], none]),
        occlusion=np.concatenate([[occlusion_level(o.hidden) for o in seen], none]).astype(np.int64),
        alpha=np.concatenate([observation_angle(rect), 10 * none]),
        box2d=np.array([*(o.box for o in seen), *(o.visible_box for o in areas)]).reshape(-1, 4),
        box3d=np.concatenate([rect, nowhere]),
    )


def outline(number: int, mesh: Mesh, stage: Stage, camera: Camera, world_from_camera: F64) -> Outline | None:
    """How a thing looks from a camera; None if no ray through the image meets it.

    Args:
        number: of the thing among the instances of `stage`.
        mesh: the thing alone, in the world.
        stage: everything, the thing among it.
        camera: what it is seen by.
        world_from_camera: (4, 4).
    """
    whole = _span(mesh, camera, world_from_camera)
    limit = np.array([camera.width - 1.0, camera.height - 1.0])
    box = whole.clip(0.0, np.tile(limit, 2))
    if not (box[2:] > box[:2]).all():
        return None
    alone = body([(number, mesh)])
    uv, pixels = _grid(box)
    met, direction = _meets(alone, uv, camera, world_from_camera)
    if not met.any():
        return None
    outside_px = 0.0
    if (whole != box).any():
        wide, wide_pixels = _grid(whole)
        off_image = ~((wide >= 0) & (wide <= limit)).all(axis=1)
        outside_px = wide_pixels * int((_meets(alone, wide, camera, world_from_camera)[0] & off_image).sum())
    hits = stage.cast(_origin(world_from_camera, int(met.sum())), direction[met])
    visible = (hits.triangle >= 0) & (stage.attributes.instance[hits.triangle] == number)
    seen = uv[met][visible]
    inside_px = pixels * len(visible)
    return Outline(
        box=box,
        truncation=outside_px / (outside_px + inside_px),
        hidden=1 - float(visible.mean()),
        visible_px=pixels * len(seen),
        visible_box=np.concatenate([seen.min(axis=0), seen.max(axis=0)]) if len(seen) else np.zeros(4),
    )


def _span(mesh: Mesh, camera: Camera, world_from_camera: F64) -> F64:
    """What the mesh spans in the plane of the image: left, top, right, bottom, which may lie outside of the image.

    What is nearer than 0.1 m is cut off. Without area if all of it is behind.
    """
    corner = transform(inverse(world_from_camera), mesh.corner.reshape(-1, 3).astype(np.float64)).reshape(-1, 3, 3)
    uvw = corner @ camera.intrinsics.T
    kept, ahead = cut_near(uvw[:, [[0, 1], [1, 2], [2, 0]]])
    uvw = kept[ahead]  # (E, 3)
    if not len(uvw):
        return np.zeros(4)
    widest = _WIDEST * np.diagonal(camera.intrinsics)[:2]
    uv = (uvw[:, :2] / uvw[:, 2:]).clip(camera.intrinsics[:2, 2] - widest, camera.intrinsics[:2, 2] + widest)
    return np.concatenate([uv.min(axis=0), uv.max(axis=0)])


def _grid(box: F64) -> tuple[F64, float]:
    """Places (R, 2) in pixels that fill a rectangle evenly, a pixel apart where sensible; and the area of each."""
    size = box[2:] - box[:2]
    count = np.ceil(size).clip(_FEWEST_RAYS, _MOST_RAYS).astype(np.int64)
    u, v = (low + (np.arange(n) + 0.5) * (extent / n) for low, extent, n in zip(box[:2], size, count, strict=True))
    return np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2), float(size.prod() / count.prod())


def _meets(
    alone: Body, uv: F64, camera: Camera, world_from_camera: F64
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Whether the rays through pixels (R, 2) meet a thing; and their directions (R, 3) in the world."""
    direction = (camera_rays(camera, uv) @ world_from_camera[:3, :3].T).astype(np.float32)
    return alone.cast(_origin(world_from_camera, len(uv)), direction).triangle >= 0, direction


def _origin(world_from_camera: F64, count: int) -> NDArray[np.float32]:
    return np.tile(world_from_camera[:3, 3].astype(np.float32), (count, 1))
