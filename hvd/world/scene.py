"""One drive: a street, what stands and moves on it, the light, and the ego vehicle's path.

Times are seconds since the drive's first key frame; the ego vehicle passes station 0 at time 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hvd.world.config import MAX_SPEED_M_S
from hvd.world.ground import ground
from hvd.world.layouts import draw_street
from hvd.world.materials import Split
from hvd.world.mesh import F32, F64, Mesh, rotation
from hvd.world.populate import populate
from hvd.world.raycast import Body, Stage, body
from hvd.world.rigs import mounted
from hvd.world.shading import Light
from hvd.world.site import Thing
from hvd.world.street import Street


@dataclass(frozen=True)
class Ego:
    """Path and stance of the ego vehicle."""

    lane: float  # metres left of the centre line
    speed: float  # metres a second
    pitch: float  # radians, from load and suspension
    roll: float
    height: float  # metres above its usual stance: loads, tyres, other vehicles


@dataclass(frozen=True)
class Scene:
    """A drive ready for the sensors."""

    street: Street
    things: tuple[Thing, ...]  # everything with an instance number, standing or moving
    ego: Ego
    light: Light
    standing: Body

    def stage(self, time_s: float) -> Stage:
        """All triangles at a moment."""
        movers = [(thing.number, thing.mesh_at(self.street, time_s)) for thing in self.things if thing.speed > 0]
        return Stage(self.standing, body(movers) if movers else None)

    def world_from_ego(self, time_s: float) -> F64:
        """(4, 4) pose of the ego vehicle at a moment."""
        sway = 0.003 * np.sin(5 * time_s)
        stance = mounted(0, 0, self.ego.height, rotation(0, self.ego.pitch + sway, self.ego.roll - sway))
        return self.street.pose(self.ego.speed * time_s, self.ego.lane) @ stance


def draw_scene(split: Split, rng: np.random.Generator, duration_s: float, *, busy: bool = False) -> Scene:
    """A drive of a split's families that lasts `duration_s` from first to last key frame; `busy`: see `populate`."""
    street = draw_street(split, rng)
    side = -1 if rng.random() < 0.6 else 1  # right-hand or left-hand traffic
    lane = next(strip for strip in street.strips[side] if strip.use == "lane")
    ego = Ego(
        lane=side * lane.middle,
        speed=float(rng.uniform(2, MAX_SPEED_M_S)),
        pitch=float(rng.normal(0, np.radians(0.8))),
        roll=float(rng.normal(0, np.radians(0.8))),
        height=float(rng.uniform(-0.2, 0.25)),
    )
    site = populate(street, split, ego.lane, rng, duration_s, busy=busy)
    standing: list[tuple[int, Mesh]] = [(0, ground(street, rng)), *((0, mesh) for mesh in site.scenery)]
    standing += [(thing.number, thing.mesh_at(street, 0.0)) for thing in site.things if thing.speed == 0]
    return Scene(street, tuple(site.things), ego, _light(rng), body(standing))


def _light(rng: np.random.Generator) -> Light:
    """Sunny or overcast, low or high sun, warm or cold, well or badly exposed."""
    height, azimuth = np.radians(rng.uniform(15, 70)), rng.uniform(0, 2 * np.pi)
    level = np.cos(height)
    clear = rng.uniform(0.1, 1.0)
    warmth = rng.uniform(-0.12, 0.2) * np.array([1.0, 0.1, -1.0])
    blue = np.array([0.35, 0.55, 0.95]) * rng.uniform(0.6, 1.0)
    cloud = np.full(3, rng.uniform(0.55, 0.95))
    zenith = cloud + clear * (blue - cloud)
    return Light(
        sun=_f32([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(height)]),
        sun_colour=_f32(1.6 * clear * (1 + warmth)),
        sky_colour=_f32(0.35 + 0.45 * zenith + 0.3 * (1 - clear)),
        ground_colour=_f32(np.full(3, rng.uniform(0.15, 0.3))),
        zenith=_f32(zenith),
        horizon=_f32(0.5 * zenith + 0.5 * cloud),
        haze_m=float(rng.uniform(120, 600)),
        exposure=_f32(rng.uniform(0.6, 0.95) * (1 + rng.normal(0, 0.05, 3))),
        noise=float(rng.uniform(0.005, 0.02)),
    )


def _f32(values: ArrayLike) -> F32:
    return np.asarray(values, dtype=np.float32)
