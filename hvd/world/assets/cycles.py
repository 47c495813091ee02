"""Bicycles and motorcycles, parked or ridden."""

import numpy as np

from hvd.world.assets.parts import Builder, Families, beam, wheel
from hvd.world.assets.people import rider
from hvd.world.kinds import Kind
from hvd.world.materials import Split, paint
from hvd.world.mesh import Mesh, bent_tube, blob, box, join, labelled, prism, repeated, tube

Rng = np.random.Generator


def _bicycle(rng: Rng, split: Split, base: float, radius: float, handle: float) -> Mesh:
    """Two thin wheels `base` metres apart, a diamond frame, saddle and handlebar."""
    frame, tyre, disc = paint(rng, split, "paint"), paint(rng, split, "tyre"), paint(rng, split, "wheel")
    rear, front = (-base / 2, 0.0, radius), (base / 2, 0.0, radius)
    crank, saddle, head = (-0.08, 0, radius - 0.06), (-0.22, 0, 0.92), (base / 2 - 0.22, 0, handle - 0.15)
    tubes = [
        bent_tube([rear, crank, head, (-0.2, 0, 0.8), rear], 0.03, frame),
        bent_tube([crank, saddle], 0.03, frame),
        bent_tube([front, head, (base / 2 - 0.28, 0, handle)], 0.03, frame),
    ]
    bar = bent_tube(
        [(base / 2 - 0.34, -0.3, handle), (base / 2 - 0.26, 0, handle), (base / 2 - 0.34, 0.3, handle)], 0.025, tyre
    )
    seat = box((0.28, 0.15, 0.07), (saddle[0], 0, saddle[2]), tyre)
    wheels = repeated(wheel(radius, 0.05, tyre, disc, sides=12), [rear, front])
    return join([*tubes, bar, seat, wheels])


def _city_bike(rng: Rng, split: Split) -> Mesh:
    basket = box((0.3, 0.35, 0.25), (0.55, 0, 0.8), paint(rng, split, "metal"))
    return join([_bicycle(rng, split, 1.1, 0.34, 1.08), basket])


def _racing_bike(rng: Rng, split: Split) -> Mesh:
    return _bicycle(rng, split, rng.uniform(0.98, 1.05), 0.34, 0.95)


def _cargo_bike(rng: Rng, split: Split) -> Mesh:
    crate = box((0.7, 0.55, 0.45), (0.55, 0, 0.5), paint(rng, split, "wood"), (1.15, 1.15))
    return join([_bicycle(rng, split, 1.6, 0.3, 1.1), crate])


def _folding_bike(rng: Rng, split: Split) -> Mesh:
    return _bicycle(rng, split, rng.uniform(0.92, 1.0), 0.24, 1.02)


def _motorcycle(rng: Rng, split: Split, seat: float, screen: bool, step: bool, bags: bool) -> Mesh:
    """Two thick wheels, engine or footboard, tank, seat, fork; optional screen and bags."""
    body, tyre, disc, metal = (paint(rng, split, name) for name in ("paint", "tyre", "wheel", "metal"))
    radius = 0.25 if step else 0.31
    base = rng.uniform(1.25, 1.5)
    parts = [repeated(wheel(radius, 0.14, tyre, disc), [(x, 0, radius) for x in (-base / 2, base / 2)])]
    parts += [
        prism([(-0.85, seat - 0.25), (0.1, seat - 0.2), (0.05, seat), (-0.8, seat + 0.06)], 0.3, tyre, body),
        box((0.55, 0.4, 0.12), (0.1, 0, 0.25), body) if step else blob((0.3, 0.2, 0.24), (0.05, 0, 0.45), metal),
        box((0.1, 0.42, 0.65), (0.42, 0, 0.3), body)
        if step
        else blob((0.34, 0.17, 0.17), (0.25, 0, seat + 0.02), body),
        *(tube((base / 2, y, radius), (base / 2 - 0.3, y, 0.98), 0.04, metal) for y in (-0.1, 0.1)),
        bent_tube(
            [(base / 2 - 0.42, -0.36, 1.02), (base / 2 - 0.3, 0, 0.98), (base / 2 - 0.42, 0.36, 1.02)], 0.03, metal
        ),
        box((0.16, 0.2, 0.2), (base / 2 - 0.2, 0, 0.75), paint(rng, split, "face", base=body.colours[0])),
    ]
    if screen:
        parts.append(box((0.08, 0.4, 0.45), (base / 2 - 0.24, 0, 0.9), paint(rng, split, "glass"), (1, 0.7)))
    if bags:
        parts += [box((0.45, 0.2, 0.35), (-0.62, y, 0.42), body) for y in (-0.28, 0.28)]
    return join(parts)


def _parked(kind: Kind, bike: Builder) -> Builder:
    return lambda rng, split: labelled(kind, bike(rng, split))


def _ridden(kind: Kind, bike: Builder, seat: float, reach: float, lean: float, foot: float) -> Builder:
    def build(rng: Rng, split: Split) -> Mesh:
        up = rng.uniform(0.95, 1.05)
        return labelled(kind, bike(rng, split), rider(rng, split, seat * up, reach, lean, foot))

    return build


def _standard(rng: Rng, split: Split) -> Mesh:
    return _motorcycle(rng, split, 0.8, False, False, False)


def _scooter(rng: Rng, split: Split) -> Mesh:
    return _motorcycle(rng, split, 0.76, False, True, False)


def _tourer(rng: Rng, split: Split) -> Mesh:
    return _motorcycle(rng, split, 0.82, True, False, True)


def _delivery_scooter(rng: Rng, split: Split) -> Mesh:
    box_behind = box((0.5, 0.5, 0.5), (-0.75, 0, 0.85), paint(rng, split, "cargo"))
    return join([_motorcycle(rng, split, 0.78, True, True, False), box_behind])


_BIKES: dict[Split, dict[str, tuple[Builder, float]]] = {
    "train": {"city": (_city_bike, 0.12), "racing": (_racing_bike, 0.35)},
    "val": {"cargo": (_cargo_bike, 0.1), "folding": (_folding_bike, 0.15)},
}
_MOTORS: dict[Split, dict[str, tuple[Builder, float]]] = {
    "train": {"standard": (_standard, 0.2), "scooter": (_scooter, 0.05)},
    "val": {"tourer": (_tourer, 0.1), "delivery": (_delivery_scooter, 0.05)},
}

BICYCLES: Families = {
    split: {name: _parked(Kind.BICYCLE, bike) for name, (bike, _) in bikes.items()} for split, bikes in _BIKES.items()
}
BICYCLISTS: Families = {
    split: {name: _ridden(Kind.BICYCLIST, bike, 0.95, 0.32, lean, 0.25) for name, (bike, lean) in bikes.items()}
    for split, bikes in _BIKES.items()
}
MOTORCYCLES: Families = {
    split: {name: _parked(Kind.MOTORCYCLE, bike) for name, (bike, _) in bikes.items()}
    for split, bikes in _MOTORS.items()
}
MOTORCYCLISTS: Families = {
    split: {name: _ridden(Kind.MOTORCYCLIST, bike, 0.82, 0.3, lean, 0.32) for name, (bike, lean) in bikes.items()}
    for split, bikes in _MOTORS.items()
}


def bike_rack(rng: Rng, split: Split, count: int) -> Mesh:
    """Hoops for `count` bicycles beside each other."""
    metal = paint(rng, split, "metal")
    hoops = [bent_tube([(-0.3, y, 0), (-0.3, y, 0.8), (0.3, y, 0.8), (0.3, y, 0)], 0.03, metal) for y in range(count)]
    return labelled(Kind.FURNITURE, *hoops, beam((-0.3, 0, 0.03), (-0.3, count - 1, 0.03), 0.05, metal))
