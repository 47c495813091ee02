"""A street while it fills up: what stands where, and where there is room left.

Occupied places are rectangles of the (s, d) plane.
"""

from dataclasses import dataclass, field

import numpy as np

from hvd.world.kinds import Kind
from hvd.world.materials import Split
from hvd.world.mesh import F64, Mesh, placed
from hvd.world.street import Street

NEAR_M = 32.0  # things that matter stand within this distance along the street
CLOSE_M = 20.0  # and small ones, which few rays meet, within this one
_CLEAR_S = 0.8  # seconds before and after which a mover's way must be free


@dataclass(frozen=True)
class Thing:
    """An object with an instance number, in its own frame (x forward, ground at z = 0), and its way on the street."""

    number: int
    kind: Kind
    mesh: Mesh
    s: float  # station at time 0
    d: float
    yaw: float  # from the street's direction
    speed: float  # metres a second along its own x axis; 0 for what stands
    tilt: bool  # follows the slope

    def pose(self, street: Street, time_s: float) -> F64:
        """(4, 4) world_from_local at a moment."""
        way = self.speed * time_s
        return street.pose(self.s + way * np.cos(self.yaw), self.d + way * np.sin(self.yaw), self.yaw, tilt=self.tilt)

    def mesh_at(self, street: Street, time_s: float) -> Mesh:
        """Its triangles in the world at a moment."""
        return placed(self.mesh, self.pose(street, time_s))


@dataclass
class Site:
    """What has been placed so far."""

    street: Street
    split: Split
    rng: np.random.Generator
    ego_lane: float
    duration_s: float
    scenery: list[Mesh] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)  # s0, s1, d0, d1

    def reserve(self, s0: float, s1: float, d0: float, d1: float) -> bool:
        """Take a rectangle if it is free."""
        if any(s0 < b and a < s1 and d0 < e and c < d1 for a, b, c, e in self.taken):
            return False
        self.taken.append((s0, s1, d0, d1))
        return True

    def room(self, mesh: Mesh, s: float, d: float, yaw: float, way: tuple[float, float] = (0.0, 0.0)) -> bool:
        """Take the ground that a mesh covers, on its way from `way[0]` to `way[1]` metres along its own x axis."""
        low, high = mesh.corner.min((0, 1)), mesh.corner.max((0, 1))
        x, y = np.array([low[0] + way[0], high[0] + way[1]]), np.array([low[1], high[1]])
        corner = np.array([[a, b] for a in x for b in y])
        along, across = np.cos(yaw), np.sin(yaw)
        at_s, at_d = s + corner @ [along, -across], d + corner @ [across, along]
        return self.reserve(at_s.min() - 0.15, at_s.max() + 0.15, at_d.min() - 0.1, at_d.max() + 0.1)

    def open(self, s: float, d: float) -> bool:
        """Whether a place is free: worth knowing before something is made for it."""
        return not any(a < s < b and c < d < e for a, b, c, e in self.taken)

    def stand(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0, *, tilt: bool = False) -> None:
        """Add scenery if there is room."""
        if self.room(mesh, s, d, yaw):
            self.scenery.append(placed(mesh, self.street.pose(s, d, yaw, tilt=tilt)))

    def add(self, mesh: Mesh, s: float, d: float, yaw: float, speed: float = 0.0, *, tilt: bool = True) -> bool:
        """Add a thing with an instance number if there is room, for all its way."""
        way = (-_CLEAR_S * speed, (self.duration_s + _CLEAR_S) * speed)
        free = self.room(mesh, s, d, yaw, way)
        if free:
            kind = Kind(int(mesh.kind[0]))
            self.things.append(Thing(len(self.things) + 1, kind, mesh, s, d, yaw, speed, tilt))
        return free

    def station(self, reach: float) -> float:
        """A random station near the ego vehicle, nearer ones more often."""
        return float(np.clip(self.rng.normal(3, 0.5 * reach), -reach, reach + 4))

    def spot(self, *uses: str, reach: float = NEAR_M) -> tuple[float, float, float] | None:
        """A random (s, d) on one of the strips of the given uses, and the direction of traffic on that side."""
        strips = [(side, strip) for use in uses for side, strip in self.street.find(use)]
        if not strips:
            return None
        side, strip = strips[self.rng.integers(len(strips))]
        margin = min(0.5, strip.width / 4)
        far = min(strip.far, strip.near + 9) if strip.use == "field" else strip.far
        d = side * float(self.rng.uniform(strip.near + margin, far - margin))
        return self.station(reach), d, self.heading(side)

    def heading(self, side: int) -> float:
        """Direction of traffic on a side: with the ego vehicle on its own side, against it on the other."""
        return 0.0 if side * self.ego_lane > 0 else float(np.pi)
