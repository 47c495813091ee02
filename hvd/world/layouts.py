"""Street layouts: which strips lie side by side, drawn from families; and a street drawn from one."""

from itertools import pairwise

import numpy as np

from hvd.world.kinds import Kind
from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import F64
from hvd.world.street import REACH_M, SIDE_M, Hills, SideStreet, Slope, Street, Strip

# use: kind, material, (narrowest, widest) in metres, (lowest, highest) level in metres
_USES: dict[str, tuple[Kind, str, tuple[float, float], tuple[float, float]]] = {
    "lane": (Kind.ROAD, "lane", (3.0, 3.7), (0.0, 0.0)),
    "park": (Kind.PARKING, "asphalt", (2.3, 2.8), (0.0, 0.03)),
    "island": (Kind.OTHER_FLAT, "island", (1.6, 3.2), (0.0, 0.2)),
    "walk": (Kind.SIDEWALK, "paving", (2.2, 4.2), (0.03, 0.24)),
    "verge": (Kind.TERRAIN, "ground", (1.5, 3.0), (0.0, 0.28)),
    "garden": (Kind.TERRAIN, "ground", (4.0, 8.0), (-0.1, 0.4)),
    "lot": (Kind.PARKING, "asphalt", (9.0, 13.0), (-0.05, 0.15)),
    "plaza": (Kind.OTHER_FLAT, "island", (6.0, 11.0), (0.0, 0.24)),
    "field": (Kind.TERRAIN, "ground", (0.0, 0.0), (-0.2, 0.4)),
}

# What lies on each side, from the middle outwards, before the field; one family is one row: (right, left)
LAYOUTS: dict[Split, dict[str, tuple[str, str]]] = {
    "train": {
        "residential": ("lane park walk verge garden", "lane island walk garden"),
        "terraces": ("lane island walk garden", "lane park verge walk"),
        "downtown": ("lane lane island walk", "lane lane walk verge"),
        "parkland": ("lane verge walk", "lane lane island verge walk"),
        "yards": ("lane park island walk lot", "lane walk verge"),
    },
    "val": {
        "boulevard": ("lane lane walk garden", "island lane lane verge walk"),
        "square": ("lane walk plaza", "lane lane park walk garden"),
        "hillside": ("lane verge island walk", "lane walk garden"),
    },
}


def draw_street(split: Split, rng: np.random.Generator) -> Street:
    """A street of one of the split's layout families."""
    names = sorted(LAYOUTS[split])
    sides = LAYOUTS[split][names[rng.integers(len(names))]]
    if rng.random() < 0.5:
        sides = sides[0], " ".join(_swap_island(sides[1]))
    road = paint(rng, split, "asphalt")
    strips = {side: _strips(uses.split(), split, rng, road) for side, uses in zip((-1, 1), sides, strict=True)}
    station, line = _centre_line(rng)
    turns = tuple(_side_street(side, rng) for side in (1, -1) if rng.random() < 0.5)
    start = max(strips[side][-1].near for side in (1, -1))
    return Street(
        station=station,
        line=line,
        slope=Slope(*rng.uniform((-0.04, 0.2, 60, 0, -0.03), (0.04, 1.2, 120, 2 * np.pi, 0.03)).tolist()),
        hills=Hills(rng.uniform(1, 4), rng.uniform(12, 25), rng.uniform(0, 2 * np.pi), max(6.0, start - 4)),
        strips=strips,
        side_streets=turns,
        road=road,
        kerb=paint(rng, split, "kerb"),
    )


def _swap_island(uses: str) -> list[str]:
    """The same side with its first island at the other edge of the walk."""
    words = uses.split()
    for i, (one, two) in enumerate(pairwise(words)):
        if {one, two} == {"island", "walk"}:
            words[i], words[i + 1] = two, one
            break
    return words


def _strips(uses: list[str], split: Split, rng: np.random.Generator, road: Surface) -> tuple[Strip, ...]:
    out, near = [], 0.0
    last_lane = max(i for i, use in enumerate(uses) if use == "lane")
    for i, use in enumerate([*uses, "field"]):
        kind, material, width, level = _USES[use]
        far = SIDE_M if use == "field" else near + rng.uniform(*width)
        if use == "lane":
            name = "lane_edge" if i == last_lane and i > 0 else "lane"
            tile = far - near, rng.uniform(7, 12)
            surface = paint(rng, split, name, base=road.colours[0], reflect=road.reflectivity, tile=tile)
        else:
            surface = paint(rng, split, material)
        out.append(Strip(use, kind, near, far, rng.uniform(*level), surface))
        near = far
    return tuple(out)


def _centre_line(rng: np.random.Generator) -> tuple[F64, F64]:
    """Stations a metre apart and (K, 3) x, y, heading; nowhere bent tighter than a radius of 80 m."""
    station = np.arange(-REACH_M - 10, REACH_M + 10.5, 1.0)
    length, phase = rng.uniform(70, 160), rng.uniform(0, 6.3)
    curvature = rng.uniform(-1, 1) / 160 + rng.uniform(0, 1) / 160 * np.sin(2 * np.pi * station / length + phase)
    heading = np.cumsum(curvature)
    heading -= np.interp(0.0, station, heading)
    x, y = np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))
    x, y = x - np.interp(0.0, station, x), y - np.interp(0.0, station, y)
    return station, np.stack([x, y, heading], -1)


def _side_street(side: int, rng: np.random.Generator) -> SideStreet:
    start = float(rng.uniform(-40, 32))
    return SideStreet(side, start, start + float(rng.uniform(6, 9)))
