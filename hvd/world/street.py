"""Streets: a curved, sloping centre line with strips of ground on both sides.

A place on a street is (s, d): metres along the centre line and metres to its left.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hvd.world.kinds import Kind
from hvd.world.materials import Surface
from hvd.world.mesh import F64, rotation

REACH_M = 75.0  # ground on both sides of the start, along the street
SIDE_M = 60.0  # and across


@dataclass(frozen=True)
class Strip:
    """A band of ground along the street, from `near` to `far` metres beside the centre line on one side."""

    use: str  # lane, park, island, plaza, walk, verge, garden, lot, field
    kind: Kind
    near: float
    far: float
    level: float  # metres above the road
    surface: Surface

    @property
    def middle(self) -> float:
        return 0.5 * (self.near + self.far)

    @property
    def width(self) -> float:
        return self.far - self.near


@dataclass(frozen=True)
class SideStreet:
    """A road that leaves on one side (+1 left, -1 right) between two stations."""

    side: int
    start: float
    end: float


class Slope(NamedTuple):
    """Height of the road: a grade, a wave along it, and a bank across."""

    grade: float
    wave_m: float
    length_m: float
    phase: float
    bank: float


class Hills(NamedTuple):
    """Undulation that grows with the distance from the road."""

    height_m: float
    length_m: float
    phase: float
    start_m: float  # from the centre line


@dataclass(frozen=True)
class Street:
    """Geometry of one street and its ground."""

    station: F64  # (K,) metres along the centre line
    line: F64  # (K, 3) x, y, heading at each station
    slope: Slope
    hills: Hills
    strips: dict[int, tuple[Strip, ...]]  # side (+1 left, -1 right) -> strips from the middle outwards
    side_streets: tuple[SideStreet, ...]
    road: Surface
    kerb: Surface

    def plan(self, s: float | F64, d: float | F64) -> tuple[F64, F64, F64]:
        """x, y and heading (radians) at a place."""
        x, y, heading = (np.interp(s, self.station, self.line[:, i]) for i in range(3))
        return x - np.sin(heading) * d, y + np.cos(heading) * d, heading

    def base(self, s: ArrayLike, d: ArrayLike) -> F64:
        """Height of the ground in metres without kerbs."""
        s, d = np.asarray(s, dtype=np.float64), np.asarray(d, dtype=np.float64)
        slope, hills = self.slope, self.hills
        road = slope.grade * s + slope.wave_m * np.sin(2 * np.pi * s / slope.length_m + slope.phase) + slope.bank * d
        away = np.maximum(np.abs(d) - hills.start_m, 0)
        along = np.sin(s / hills.length_m + np.sign(d) + hills.phase)
        across = np.sin(0.6 * d / hills.length_m + hills.phase)
        return np.asarray(road + hills.height_m * (along + across) * away / (away + 12))

    def strip_at(self, s: float, d: float) -> Strip | None:
        """The strip under a place; None on a side street."""
        side = 1 if d >= 0 else -1
        if abs(d) > self.road_edge(side) and any(t.side == side and t.start < s < t.end for t in self.side_streets):
            return None
        strips = self.strips[side]
        return next((strip for strip in strips if strip.near <= abs(d) < strip.far), strips[-1])

    def road_edge(self, side: int) -> float:
        """Metres from the centre line to the first kerb of a side."""
        lanes = [strip.far for strip in self.strips[side] if strip.use == "lane"]
        return max(lanes)

    def find(self, use: str) -> list[tuple[int, Strip]]:
        """Every strip of a use, with its side."""
        return [(side, strip) for side in (1, -1) for strip in self.strips[side] if strip.use == use]

    def pose(self, s: float, d: float, yaw: float = 0.0, *, tilt: bool = True) -> F64:
        """(4, 4) world_from_local of something standing at a place, turned by `yaw` from the street's direction.

        With `tilt` it follows the slope of the ground (vehicles), else it stands upright.
        """
        x, y, heading = (float(v) for v in self.plan(s, d))
        strip = self.strip_at(s, d)
        pitch = roll = 0.0
        if tilt:
            along, across = np.cos(yaw), np.sin(yaw)
            pitch = -float(np.arctan(self._rise(s, d, along, across)))
            roll = float(np.arctan(self._rise(s, d, -across, along)))
        matrix = np.eye(4)
        matrix[:3, :3] = rotation(heading + yaw, pitch, roll)
        matrix[:3, 3] = x, y, float(self.base(s, d)) + (strip.level if strip else 0.0)
        return matrix

    def _rise(self, s: float, d: float, along: float, across: float) -> float:
        """Slope of the ground in a direction of the (s, d) plane."""
        return float(self.base(s + along, d + across) - self.base(s - along, d - across)) / 2
