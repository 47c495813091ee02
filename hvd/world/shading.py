"""Surfaces under rays: texture lookup with mip levels, light, sky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvd.world.mesh import F32
from hvd.world.painters import SIZE
from hvd.world.raycast import COLOUR_0, COLOUR_1, DENSITY, ECHO, NORMAL, STEP_1, STEP_2, UV, Attributes, Hits
from hvd.world.textures import Atlas


@dataclass(frozen=True)
class Light:
    """Sun, sky and camera exposure of one drive (linear RGB)."""

    sun: F32  # (3,) unit vector towards the sun
    sun_colour: F32  # (3,)
    sky_colour: F32  # (3,) light from above
    ground_colour: F32  # (3,) light from below
    zenith: F32  # (3,) colour of the sky overhead
    horizon: F32  # (3,)
    haze_m: float  # distance at which 63 % of a colour is haze
    exposure: F32  # (3,) gain of each channel: exposure and white balance
    noise: float  # deviation of the sensor's noise, in 0..1 of the encoded value


@dataclass(frozen=True)
class Samples:
    """Surface properties at hits."""

    mix: F32  # (R,) 0..1
    colour: F32  # (R, 3)
    echo: F32  # (R, 4) reflectivity at mix 0 and 1, gloss, range noise
    normal: F32  # (R, 3) unit, facing the viewer
    facing: F32  # (R,) cosine between the normal and the way back


def sample(attributes: Attributes, atlas: Atlas, hits: Hits, direction: F32, pixel_angle: float) -> Samples:
    """Look up the surfaces that rays hit (all must have hit); `pixel_angle` in radians is a ray's footprint."""
    row = attributes.row[hits.triangle]
    normal = row[:, NORMAL]
    toward = np.einsum("ij,ij->i", normal, direction)
    normal = np.where(toward[:, None] > 0, -normal, normal)
    facing = np.abs(toward)
    uv = row[:, UV] + hits.u[:, None] * row[:, STEP_1] + hits.v[:, None] * row[:, STEP_2]
    footprint = hits.distance * pixel_angle / np.sqrt(np.maximum(facing, 0.02))
    mix, shade = _texels(atlas, attributes.texture[hits.triangle], uv, footprint * row[:, DENSITY] * SIZE)
    colour = (row[:, COLOUR_0] + mix[:, None] * (row[:, COLOUR_1] - row[:, COLOUR_0])) * shade[:, None]
    return Samples(mix, colour, row[:, ECHO], normal, facing)


def _texels(atlas: Atlas, layer: NDArray[np.int32], uv: F32, texels: F32) -> tuple[F32, F32]:
    """Mix and shade at texture coordinates, from the mip level whose texel is about the footprint (in texels)."""
    top = len(atlas.level_size) - 1
    level = np.clip(np.log2(np.maximum(texels, 1e-6)) + 0.5, 0, top).astype(np.int32)
    size = atlas.level_size[level]
    place = (uv - np.floor(uv)) * size[:, None]
    x, y = np.minimum(place.astype(np.int32), size[:, None] - 1).T
    value = atlas.texel[layer * atlas.stride + atlas.level_start[level] + y * size + x]
    return value[:, 0] * np.float32(1 / 255), value[:, 1] * np.float32(1 / 128)


def sky(light: Light, direction: F32) -> F32:
    """Colour of the sky (R, 3), brighter around the sun, hazy at the horizon, with soft bands of cloud."""
    up = np.clip(direction[:, 2:3], 0, 1)
    cloud = 0.5 + 0.5 * np.sin(9 * direction[:, :1] + 5 * np.sin(7 * direction[:, 1:2]) + 14 * up)
    base = light.horizon + (light.zenith - light.horizon) * np.sqrt(up) + 0.12 * cloud * up
    glow = np.clip(direction @ light.sun, 0, 1)[:, None] ** 24
    return np.asarray(base + 0.5 * glow * light.sun_colour, dtype=np.float32)


def shade(light: Light, samples: Samples, lit: NDArray[np.bool_], direction: F32, distance: F32) -> F32:
    """Lambert's law under sun and sky, a share of mirrored sky by gloss, and haze (R, 3)."""
    up = 0.5 + 0.5 * samples.normal[:, 2:3]
    ambient = light.ground_colour + (light.sky_colour - light.ground_colour) * up
    sunlight = np.maximum(samples.normal @ light.sun, 0) * lit
    colour = samples.colour * (ambient + sunlight[:, None] * light.sun_colour)
    gloss = (samples.echo[:, 2] * (0.15 + 0.85 * (1 - samples.facing) ** 3))[:, None]
    mirrored_up = direction[:, 2:3] + 2 * samples.facing[:, None] * samples.normal[:, 2:3]
    mirrored = light.horizon + (light.zenith - light.horizon) * np.clip(mirrored_up, -0.3, 1)
    colour = colour + gloss * (mirrored - colour)
    clear = np.exp(-distance / light.haze_m)[:, None]
    return np.asarray(light.horizon + (colour - light.horizon) * clear, dtype=np.float32)
