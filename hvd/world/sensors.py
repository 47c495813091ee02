"""What the sensors record: pictures of cameras and echoes of a spinning LiDAR.

Letters: R rays, H x W pixels. Places are in the world frame, metres.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvd.world.mesh import F32, F64
from hvd.world.raycast import Stage
from hvd.world.rigs import Camera, Lidar
from hvd.world.shading import Light, sample, shade, sky
from hvd.world.textures import Atlas

_EXTRA = ((-0.15, -0.33), (0.35, 0.05), (-0.2, 0.3))  # further rays of a pixel, in pixels
_CONTRAST = 0.06  # step of the encoded value to a neighbour from which on a pixel gets its further rays
_GAMMA = 2.2  # encoding of linear light


@dataclass(frozen=True)
class Cloud:
    """Echoes of one turn in the LiDAR's frame."""

    point: F32  # (N, 3)
    intensity: F32  # (N,) 0..1
    ring: NDArray[np.int32]  # (N,) beam, lowest first
    kind: NDArray[np.uint8]  # (N,)
    instance: NDArray[np.int32]  # (N,) 0: none


def camera_rays(camera: Camera, uv: F64) -> F64:
    """Unit directions (R, 3) in the camera's frame through pixels (R, 2)."""
    fx, fy, cx, cy = camera.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
    ray = np.stack([(uv[:, 0] - cx) / fx, (uv[:, 1] - cy) / fy, np.ones(len(uv))], -1)
    return np.asarray(ray / np.sqrt((ray * ray).sum(-1, keepdims=True)))


def photograph(
    camera: Camera,
    world_from_camera: F64,
    stage: Stage,
    light: Light,
    atlas: Atlas,
    antialias: bool,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A picture (H, W, 3), encoded with gamma 2.2; with `antialias`, pixels on edges are means of several rays."""
    grid = (
        np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), -1).reshape(-1, 2).astype(np.float64)
    )
    angle = 1.0 / float(camera.intrinsics[0, 0])

    def look(uv: F64, pixel_angle: float, lit: NDArray[np.bool_] | None) -> tuple[F32, NDArray[np.bool_]]:
        direction = (camera_rays(camera, uv) @ world_from_camera[:3, :3].T).astype(np.float32)
        colour, lit = _radiance(stage, light, atlas, world_from_camera[:3, 3], direction, pixel_angle, lit)
        return np.minimum(colour * light.exposure, 1.0), lit  # clipped before any mean, as bright edges are

    total, lit = look(grid, angle, None)
    if antialias:
        busy = np.flatnonzero(_busy(total.reshape(camera.height, camera.width, 3)))
        for offset in _EXTRA:
            total[busy] += look(grid[busy] + offset, angle / 2, lit[busy])[0]
        total[busy] /= 1 + len(_EXTRA)
    value = np.clip(total, 0, 1) ** np.float32(1 / _GAMMA)
    value += np.float32(light.noise) * rng.standard_normal(value.shape, dtype=np.float32)
    return (np.clip(value, 0, 1) * 255).round().astype(np.uint8).reshape(camera.height, camera.width, 3)


def _busy(colour: F32) -> NDArray[np.bool_]:
    """Pixels (H, W) that differ from one of their four neighbours."""
    green = np.sqrt(colour[..., 1])
    across, down = np.abs(np.diff(green, axis=1)) > _CONTRAST, np.abs(np.diff(green, axis=0)) > _CONTRAST
    busy = np.zeros(green.shape, dtype=bool)
    busy[:, 1:] |= across
    busy[:, :-1] |= across
    busy[1:] |= down
    busy[:-1] |= down
    return busy


def _radiance(
    stage: Stage,
    light: Light,
    atlas: Atlas,
    origin: F64,
    direction: F32,
    pixel_angle: float,
    lit: NDArray[np.bool_] | None,
) -> tuple[F32, NDArray[np.bool_]]:
    """Colours (R, 3) along rays from one place, and whether the sun reaches what they hit.

    The first ray of a pixel decides on its shadow; its later rays are passed that answer as `lit`.
    """
    start = np.broadcast_to(origin.astype(np.float32), direction.shape).copy()
    hits = stage.cast(start, direction)
    met = np.flatnonzero(hits.triangle >= 0)
    found, ahead = hits.at(met), direction[met]
    surface = sample(stage.attributes, atlas, found, ahead, pixel_angle)
    if lit is None:
        lit = np.ones(len(direction), dtype=bool)
        lit[met] = stage.lit(start[met] + found.distance[:, None] * ahead, surface.normal, light.sun)
    colour = np.empty_like(direction)
    colour[met] = shade(light, surface, lit[met], ahead, found.distance)
    missed = np.flatnonzero(hits.triangle < 0)
    colour[missed] = sky(light, direction[missed])
    return colour, lit


def sweep(lidar: Lidar, world_from_lidar: F64, stage: Stage, atlas: Atlas, rng: np.random.Generator) -> Cloud:
    """One turn of the LiDAR: points in its own frame, with noise, lost echoes and intensities."""
    beam, ray = _lidar_rays(lidar)
    direction = (ray @ world_from_lidar[:3, :3].T).astype(np.float32)
    start = np.broadcast_to(world_from_lidar[:3, 3].astype(np.float32), direction.shape).copy()
    hits = stage.cast(start, direction)
    met = np.flatnonzero((hits.triangle >= 0) & (hits.distance < lidar.max_range_m) & (hits.distance > 1.0))
    found = hits.at(met)
    surface = sample(stage.attributes, atlas, found, direction[met], pixel_angle=0.003)
    power = _echo(lidar, surface.echo, surface.mix, surface.facing, found.distance)
    kept = rng.random(len(met)) > lidar.dropout + 0.8 * np.exp(-power / 0.02)
    distance = found.distance + rng.normal(0, 1, len(met)) * np.hypot(lidar.noise_m, surface.echo[:, 3])
    level = np.clip(power * np.exp(rng.normal(0, 0.15, len(met))), 0, 1) ** lidar.gamma
    triangle = found.triangle[kept]
    return Cloud(
        point=(ray[met] * distance[:, None])[kept].astype(np.float32),
        intensity=level[kept].astype(np.float32),
        ring=beam[met][kept],
        kind=stage.attributes.kind[triangle],
        instance=stage.attributes.instance[triangle],
    )


def _echo(lidar: Lidar, echo: F32, mix: F32, facing: F32, distance: F32) -> F32:
    """Received power of each hit: falls with the angle of incidence and, by its optics, slowly with range."""
    reflectivity = echo[:, 0] + mix * (echo[:, 1] - echo[:, 0])
    matt = reflectivity * np.sqrt(np.maximum(facing, 0.03))
    mirrored = echo[:, 2] * facing**24  # glossy paint and glass flash when hit head-on
    return np.asarray(lidar.gain * (matt + 0.8 * mirrored) * (10 / np.maximum(distance, 3)) ** lidar.falloff)


def _lidar_rays(lidar: Lidar) -> tuple[NDArray[np.int32], F64]:
    """Beam number (R,) and unit direction (R, 3) in the LiDAR's frame, column by column as it turns."""
    step = np.arange(lidar.columns) * (2 * np.pi / lidar.columns)
    azimuth = np.repeat(-step if lidar.clockwise else step, len(lidar.elevation))
    elevation = np.tile(lidar.elevation, lidar.columns)
    beam = np.tile(np.arange(len(lidar.elevation), dtype=np.int32), lidar.columns)
    flat = np.cos(elevation)
    return beam, np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1)
