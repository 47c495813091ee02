"""Parts that several vehicles share. Local frame: x forward, y left, z up, ground at z = 0, middle at the origin."""

from collections.abc import Callable, Sequence

import numpy as np

from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import Mesh, box, join, polygon, repeated, sheet, tube

Builder = Callable[[np.random.Generator, Split], Mesh]
Families = dict[Split, dict[str, Builder]]


def draw(families: Families, rng: np.random.Generator, split: Split) -> Mesh:
    """A model of one of the split's families."""
    names = sorted(families[split])
    return families[split][names[rng.integers(len(names))]](rng, split)


def wheel(radius: float, width: float, tyre: Surface, disc: Surface, sides: int = 10) -> Mesh:
    """A wheel at the origin whose axle runs along y; both faces show the disc texture."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    ring = radius * np.stack([np.cos(angle), np.zeros(sides), np.sin(angle)], -1)
    half = np.array([0.0, width / 2, 0.0])
    faces = repeated(polygon(ring, disc, fit=True), [-half, half])
    return join([tube(-half, half, radius, tyre, sides=sides), faces])


def axles(
    xs: Sequence[float], track: float, radius: float, rng: np.random.Generator, split: Split, width: float = 0.22
) -> Mesh:
    """A pair of wheels at each x, `track` metres apart."""
    one = wheel(radius, width, paint(rng, split, "tyre"), paint(rng, split, "wheel"))
    return repeated(one, [(x, side * track / 2, radius) for x in xs for side in (-1, 1)])


def face(x: float, width: float, low: float, high: float, surface: Surface) -> Mesh:
    """An upright sheet across the vehicle at x, textured once, for its front (or rear, for x < 0)."""
    side = 0.5 * width if x > 0 else -0.5 * width
    return sheet([[x, -side, low], [x, side, low], [x, side, high], [x, -side, high]], surface)


def flank(x0: float, x1: float, y: float, low: float, high: float, surface: Surface) -> Mesh:
    """An upright sheet along the vehicle at y, textured once."""
    ends = (x0, x1) if y < 0 else (x1, x0)
    return sheet([[ends[0], y, low], [ends[1], y, low], [ends[1], y, high], [ends[0], y, high]], surface)


def beam(start: Sequence[float], end: Sequence[float], width: float, surface: Surface) -> Mesh:
    """A square bar between two points."""
    return tube(start, end, width / np.sqrt(2), surface, sides=4, caps=True)


def slab(x0: float, x1: float, width: float, low: float, high: float, surface: Surface) -> Mesh:
    """A box between two x and two heights, centred in y."""
    return box((x1 - x0, width, high - low), ((x0 + x1) / 2, 0, low), surface)
