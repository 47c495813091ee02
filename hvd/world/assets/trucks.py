"""Buses, trucks and trailers."""

import numpy as np

from hvd.world.assets.parts import Families, axles, beam, face, flank, slab
from hvd.world.kinds import Kind
from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import Mesh, box, join, labelled, prism, tube
from hvd.world.palette import colour

Rng = np.random.Generator


def _bus(rng: Rng, split: Split, length: float, height: float, slope: float, decks: int = 1) -> Mesh:
    """A box with bands of windows, its front leaning back by `slope` metres."""
    width, clear, half = rng.uniform(2.4, 2.6), rng.uniform(0.3, 0.4), length / 2
    body = paint(rng, split, "paint")
    glass = paint(rng, split, "glass")
    side = paint(
        rng,
        split,
        "panes",
        base=body.colours[0],
        accent=glass.colours[0],
        tile=(rng.uniform(5, 7), (height - clear) / decks),
    )
    profile = [
        (-half, clear),
        (half, clear),
        (half - 0.3 * slope, 0.4 * height),
        (half - slope, height),
        (-half, height),
    ]
    front, rear = (paint(rng, split, "face", base=body.colours[0], accent=colour(rng, g)) for g in ("light", "vivid"))
    parts = [
        prism(profile, width, side, [body, body, glass, body, body]),
        face(half + 0.01, width * 0.95, clear, 0.36 * height, front),
        face(-half - 0.01, width * 0.95, clear, 0.4 * height, rear),
        face(-half - 0.01, width * 0.8, 0.55 * height, 0.85 * height, glass),
        slab(-0.3 * half, 0.2 * half, width * 0.6, height, height + rng.uniform(0.15, 0.35), body),
        axles((-0.56 * half, 0.6 * half), width - 0.2, 0.48, rng, split, 0.3),
    ]
    return labelled(Kind.BUS, *parts)


BUSES: Families = {
    "train": {
        "city": lambda rng, split: _bus(rng, split, rng.uniform(10, 12), rng.uniform(2.9, 3.2), 0.1),
        "minibus": lambda rng, split: _bus(rng, split, rng.uniform(6.5, 8), rng.uniform(2.6, 2.9), 0.5),
    },
    "val": {
        "coach": lambda rng, split: _bus(rng, split, rng.uniform(11, 12.5), rng.uniform(3.3, 3.6), 0.45),
        "double_decker": lambda rng, split: _bus(rng, split, rng.uniform(9, 10.5), rng.uniform(4.0, 4.3), 0.15, 2),
    },
}


def _cab(x0: float, x1: float, height: float, bonnet: float, rng: Rng, split: Split) -> Mesh:
    """A driver's cab between two x; with `bonnet` > 0 the engine stands before it."""
    width = 2.3
    body, glass = paint(rng, split, "paint"), paint(rng, split, "glass")
    front = paint(rng, split, "face", base=body.colours[0])
    side = paint(rng, split, "cabin", base=body.colours[0], accent=glass.colours[0], tile=(1, 1))
    screen, belt = x1 - bonnet, 0.55 * height
    lower = [(x0, 0.4), (x1, 0.4), (x1, belt * (0.85 if bonnet else 1)), (screen, belt), (x0, belt)]
    upper = [(x0, belt), (screen, belt), (screen - 0.25, height), (x0, height)]
    return join(
        [
            prism(lower, width, body),
            prism(upper, width, side, [body, glass, body, body], taper=0.94, fit=True),
            face(x1 + 0.01, width * 0.95, 0.45, belt * 0.85, front),
            *(beam((screen, y * 1.3, belt), (screen, y * 1.3, belt + 0.5), 0.12, body) for y in (-1, 1)),
        ]
    )


def _frame(x0: float, x1: float, rng: Rng, split: Split) -> Mesh:
    return slab(x0, x1, 0.9, 0.55, 0.85, paint(rng, split, "metal"))


def _box_load(x0: float, x1: float, rng: Rng, split: Split) -> Mesh:
    height, width = rng.uniform(2.0, 2.6), rng.uniform(2.3, 2.5)
    cargo = paint(rng, split, "cargo")
    doors = paint(rng, split, "face", base=cargo.colours[0], accent=colour(rng, "vivid"))
    return join([slab(x0, x1, width, 0.9, 0.9 + height, cargo), face(x0 - 0.01, width, 0.5, 1.2, doors)])


def _tank_load(x0: float, x1: float, rng: Rng, split: Split) -> Mesh:
    tank, radius = paint(rng, split, "cargo"), rng.uniform(0.9, 1.1)
    hatch = slab((x0 + x1) / 2 - 1, (x0 + x1) / 2 + 1, 0.5, 0.9 + 2 * radius, 1.1 + 2 * radius, tank)
    return join([tube((x0, 0, 0.9 + radius), (x1, 0, 0.9 + radius), radius, tank, sides=12, caps=True), hatch])


def _open_load(x0: float, x1: float, rng: Rng, split: Split) -> Mesh:
    """Side boards and a heap."""
    board, heap = paint(rng, split, "cargo"), paint(rng, split, "ground")
    height = rng.uniform(0.5, 1.1)
    walls = [flank(x0, x1, y * 1.18, 0.9, 0.9 + height, board) for y in (-1, 1)]
    ends = [face(x, 2.36, 0.9, 0.9 + height, board) for x in (x0, x1)]
    load = box((x1 - x0, 2.3, height * rng.uniform(0.8, 1.6)), ((x0 + x1) / 2, 0, 0.9), heap, (0.4, 0.3))
    return join([*walls, *ends, load])


def _flat_load(x0: float, x1: float, rng: Rng, split: Split) -> Mesh:
    """A low deck with crates or pipes of several sizes."""
    deck = slab(x0, x1, 2.4, 0.85, 1.0, paint(rng, split, "wood"))
    crates, x = [deck], x0 + 0.2
    while x < x1 - 0.8:
        length = min(float(rng.uniform(0.8, 2.4)), x1 - x - 0.1)
        crates.append(slab(x, x + length, rng.uniform(1.5, 2.3), 1.0, rng.uniform(1.4, 2.6), paint(rng, split, "wood")))
        x += length + rng.uniform(0.1, 0.8)
    return join(crates)


_LOADS = {"box": _box_load, "tank": _tank_load, "open": _open_load, "flat": _flat_load}


def _truck(rng: Rng, split: Split, load: str, bonnet: float = 0.0) -> Mesh:
    length = rng.uniform(6.5, 9.5)
    half, cab = length / 2, rng.uniform(1.7, 2.2) + bonnet
    parts = [
        _cab(half - cab, half, rng.uniform(2.5, 3.1), bonnet, rng, split),
        _frame(-half, half - cab, rng, split),
        _LOADS[load](-half, half - cab - 0.25, rng, split),
        axles((-0.62 * half, -0.3 * half, half - 0.8), 2.1, 0.5, rng, split, 0.32),
    ]
    return labelled(Kind.TRUCK, *parts)


def _pickup(rng: Rng, split: Split) -> Mesh:
    length = rng.uniform(5.2, 6.2)
    half = length / 2
    body, glass = paint(rng, split, "paint"), paint(rng, split, "glass")
    side = paint(rng, split, "cabin", base=body.colours[0], accent=glass.colours[0], tile=(1, 1))
    front = paint(rng, split, "face", base=body.colours[0])
    lower = [(-half, 0.4), (half, 0.4), (half, 1.05), (0.5, 1.2), (-0.9, 1.2), (-half, 1.15)]
    parts = [
        prism(lower, 2.0, body),
        prism(
            [(-0.9, 1.2), (0.75, 1.2), (0.1, 1.95), (-0.8, 1.95)], 1.9, side, [body, glass, body, glass], 0.85, fit=True
        ),
        face(half + 0.01, 1.9, 0.5, 1.05, front),
        axles((-0.6 * half, 0.62 * half), 1.8, 0.42, rng, split, 0.28),
        slab(-half + 0.2, -1.1, 1.5, 1.2, rng.uniform(1.3, 1.8), paint(rng, split, "wood")),
    ]
    return labelled(Kind.TRUCK, *parts)


TRUCKS: Families = {
    "train": {
        "box": lambda rng, split: _truck(rng, split, "box"),
        "tipper": lambda rng, split: _truck(rng, split, "open"),
        "tanker": lambda rng, split: _truck(rng, split, "tank"),
        "pickup": _pickup,
    },
    "val": {
        "bonneted_box": lambda rng, split: _truck(rng, split, "box", 1.1),
        "flatbed": lambda rng, split: _truck(rng, split, "flat"),
        "bonneted_tipper": lambda rng, split: _truck(rng, split, "open", 1.0),
    },
}


def _legs(x: float, rng: Rng, split: Split) -> Mesh:
    metal = paint(rng, split, "metal")
    return join(beam((x, y * 0.7, 0.0), (x, y * 0.7, 0.9), 0.16, metal) for y in (-1, 1))


def _semi(rng: Rng, split: Split, load: str) -> Mesh:
    """A semi-trailer on its legs: three axles at the rear, an overhanging front."""
    length = rng.uniform(8, 12.5)
    half = length / 2
    parts = [
        _frame(-half, half, rng, split),
        _LOADS[load](-half, half, rng, split),
        axles((-0.78 * half, -0.56 * half, -0.34 * half), 2.1, 0.48, rng, split, 0.32),
        _legs(0.45 * half, rng, split),
        _drawbar(half, half + 0.8, rng, split),
    ]
    return labelled(Kind.TRAILER, *parts)


def _drawbar(x0: float, x1: float, rng: Rng, split: Split) -> Mesh:
    metal = paint(rng, split, "metal")
    return join(beam((x0, y * 0.4, 0.6), (x1, 0.0, 0.5), 0.1, metal) for y in (-1, 1))


def _small_trailer(rng: Rng, split: Split, body: Surface, height: float, length: float) -> Mesh:
    """A one-axle trailer with a drawbar, open or closed."""
    half = length / 2
    parts = [
        slab(-half, half, rng.uniform(1.7, 2.1), 0.5, 0.5 + height, body),
        axles((0.0,), 2.15, 0.34, rng, split),
        _drawbar(half, half + 1.2, rng, split),
    ]
    return labelled(Kind.TRAILER, *parts)


# A load that trucks carry in training is on trailers there too, or it would stand for the class.
TRAILERS: Families = {
    "train": {
        "semi_box": lambda rng, split: _semi(rng, split, "box"),
        "semi_tank": lambda rng, split: _semi(rng, split, "tank"),
        "semi_open": lambda rng, split: _semi(rng, split, "open"),
        "caravan": lambda rng, split: _small_trailer(
            rng, split, paint(rng, split, "panes", tile=(2.4, 1.8)), 1.9, rng.uniform(4, 5.5)
        ),
    },
    "val": {
        "semi_flat": lambda rng, split: _semi(rng, split, "flat"),
        "utility": lambda rng, split: _small_trailer(rng, split, paint(rng, split, "cargo"), 1.5, rng.uniform(2.6, 4)),
    },
}
