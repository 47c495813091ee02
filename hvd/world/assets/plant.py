"""Construction vehicles: chassis on tracks or big wheels, a glazed cab, and arms, buckets, blades or drums."""

from itertools import pairwise

import numpy as np

from hvd.world.assets.parts import Families, axles, beam, face, slab
from hvd.world.kinds import Kind
from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import Mesh, box, join, labelled, moved, prism, tube

Rng = np.random.Generator


def _cab(x: float, y: float, low: float, body: Surface, rng: Rng, split: Split) -> Mesh:
    glass = paint(rng, split, "glass")
    side = paint(rng, split, "cabin", base=body.colours[0], accent=glass.colours[0], tile=(1, 1))
    shape = prism([(-0.7, 0), (0.7, 0), (0.55, 1.5), (-0.7, 1.5)], 1.2, side, [body, glass, body, glass], 0.9, fit=True)
    return join([moved(shape, x, y, low), box((1.6, 1.3, 0.1), (x, y, low + 1.5), body)])


def _tracks(length: float, gauge: float, rng: Rng, split: Split) -> Mesh:
    rubber = paint(rng, split, "track")
    half = length / 2
    profile = [
        (-half + 0.35, 0.0),
        (half - 0.35, 0.0),
        (half, 0.4),
        (half - 0.3, 0.8),
        (-half + 0.3, 0.8),
        (-half, 0.4),
    ]
    return join(moved(prism(profile, 0.55, rubber), y=side * gauge / 2) for side in (-1, 1))


def _bucket(x: float, z: float, width: float, body: Surface) -> Mesh:
    return moved(prism([(0, 0), (0.9, -0.1), (1.1, 0.25), (0.3, 0.8), (0, 0.7)], width, body), x, 0.0, z)


def _arm(points: list[tuple[float, float]], width: float, body: Surface) -> Mesh:
    """Boom and stick in the plane y = 0.3."""
    joints = [(x, 0.3, z) for x, z in points]
    return join(beam(a, b, width, body) for a, b in pairwise(joints))


def _excavator(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "plant")
    reach, lift = rng.uniform(2.8, 4.0), rng.uniform(2.8, 4.0)
    upper = join(
        [
            slab(-2.0, 1.2, 2.4, 1.0, 1.9, body),
            slab(-2.2, -1.2, 2.4, 1.0, 2.3, body),
            _cab(0.5, -0.6, 1.7, body, rng, split),
            _arm([(1.0, 1.8), (reach, lift), (reach + 1.4, 1.6)], 0.4, body),
            _bucket(reach + 0.8, 0.8, 1.1, body),
        ]
    )
    return labelled(Kind.CONSTRUCTION, _tracks(3.6, 2.2, rng, split), moved(upper, yaw=rng.uniform(-1.2, 1.2)))


def _wheel_loader(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "plant")
    lift = rng.uniform(0.2, 1.6)
    parts = [
        slab(-3.0, -0.6, 1.9, 0.8, 2.0, body),
        _cab(-0.2, 0.0, 1.6, body, rng, split),
        slab(0.2, 1.6, 1.2, 0.8, 1.4, body),
        *(beam((1.0, y, 1.4), (2.8, y, lift + 0.5), 0.25, body) for y in (-0.6, 0.6)),
        _bucket(2.6, lift, 2.5, body),
        axles((-1.8, 1.2), 1.9, 0.75, rng, split, 0.55),
    ]
    return labelled(Kind.CONSTRUCTION, *parts)


def _dumper(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "plant")
    skip = prism([(0.0, 0.2), (1.6, 0.6), (2.0, 1.5), (-0.6, 1.4)], 1.9, body)
    parts = [
        slab(-2.2, 0.8, 1.4, 0.6, 1.2, body),
        _cab(-1.4, 0.0, 1.2, body, rng, split),
        moved(skip, 0.2, 0.0, 0.9),
        axles((-1.5, 1.2), 1.8, 0.6, rng, split, 0.45),
    ]
    return labelled(Kind.CONSTRUCTION, *parts)


def _mobile_crane(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "plant")
    tip = rng.uniform(4.5, 6.5)
    parts = [
        slab(-3.2, 3.2, 2.3, 0.7, 1.4, body),
        _cab(2.4, 0.4, 1.3, body, rng, split),
        slab(-2.6, -0.4, 1.8, 1.4, 2.4, body),
        _arm([(-1.8, 2.2), (tip - 1.5, 3.4), (tip + 0.5, 3.7)], 0.6, body),
        axles((-2.3, -1.0, 2.3), 2.1, 0.6, rng, split, 0.4),
    ]
    return labelled(Kind.CONSTRUCTION, *parts)


def _backhoe(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "plant")
    lift = rng.uniform(0.1, 1.0)
    parts = [
        slab(-1.6, 2.0, 1.3, 0.8, 1.7, body),
        _cab(-0.6, 0.0, 1.5, body, rng, split),
        *(beam((1.4, y, 1.3), (3.0, y, lift + 0.4), 0.2, body) for y in (-0.6, 0.6)),
        _bucket(2.8, lift, 2.2, body),
        _arm([(-1.6, 1.2), (-2.8, 3.2), (-4.0, 1.3)], 0.3, body),
        moved(_bucket(0.0, 0.0, 0.7, body), -3.9, 0.3, 0.6, yaw=np.pi),
        axles((-1.1,), 1.9, 0.75, rng, split, 0.45),
        axles((1.5,), 1.7, 0.5, rng, split, 0.35),
    ]
    return labelled(Kind.CONSTRUCTION, *parts)


def _bulldozer(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "plant")
    parts = [
        _tracks(3.4, 2.0, rng, split),
        slab(-1.8, 1.8, 1.5, 0.6, 1.7, body),
        _cab(-0.7, 0.0, 1.6, body, rng, split),
        prism([(2.2, 0.05), (2.5, 0.05), (2.3, 0.7), (2.6, 1.3), (2.4, 1.3), (2.1, 0.7)], 3.0, body),
        *(beam((0.5, y, 0.6), (2.3, y, 0.6), 0.2, body) for y in (-1.2, 1.2)),
        tube((1.0, 0.4, 1.7), (1.0, 0.4, 2.5), 0.08, body),
    ]
    return labelled(Kind.CONSTRUCTION, *parts)


def _roller(rng: Rng, split: Split) -> Mesh:
    body, drum = paint(rng, split, "plant"), paint(rng, split, "metal")
    parts = [
        tube((1.6, -1.0, 0.75), (1.6, 1.0, 0.75), 0.75, drum, sides=14, caps=True),
        slab(-2.2, 0.9, 1.6, 0.7, 1.6, body),
        _cab(-0.3, 0.0, 1.5, body, rng, split),
        *(beam((0.6, y, 0.9), (1.7, y, 0.9), 0.2, body) for y in (-1.1, 1.1)),
        face(-2.21, 1.5, 0.8, 1.5, paint(rng, split, "face", base=body.colours[0])),
        axles((-1.4,), 1.8, 0.7, rng, split, 0.5),
    ]
    return labelled(Kind.CONSTRUCTION, *parts)


PLANT: Families = {
    "train": {
        "excavator": _excavator,
        "wheel_loader": _wheel_loader,
        "dumper": _dumper,
        "mobile_crane": _mobile_crane,
    },
    "val": {"backhoe": _backhoe, "bulldozer": _bulldozer, "roller": _roller},
}
