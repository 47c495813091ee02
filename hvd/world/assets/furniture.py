"""Barriers, cones, poles, signs, fences and other small things along a street."""

import numpy as np

from hvd.world.assets.parts import Families, beam, face
from hvd.world.kinds import Kind
from hvd.world.materials import Split, paint
from hvd.world.mesh import Mesh, box, join, labelled, moved, polygon, prism, tube

Rng = np.random.Generator

_JERSEY = [(-0.3, 0.0), (0.3, 0.0), (0.3, 0.12), (0.12, 0.4), (0.08, 0.85), (-0.08, 0.85), (-0.12, 0.4), (-0.3, 0.12)]
_STEP = [(-0.28, 0.0), (0.28, 0.0), (0.28, 0.3), (0.14, 0.3), (0.1, 0.95), (-0.1, 0.95), (-0.14, 0.3), (-0.28, 0.3)]


def _concrete(rng: Rng, split: Split, profile: list[tuple[float, float]]) -> Mesh:
    size = rng.uniform(0.85, 1.2)
    shape = prism(np.asarray(profile) * size, rng.uniform(1.8, 2.4), paint(rng, split, "concrete"))
    return labelled(Kind.BARRIER, shape)


def _plastic(rng: Rng, split: Split) -> Mesh:
    length, height = rng.uniform(1.5, 2.0), rng.uniform(0.8, 1.05)
    shell = paint(rng, split, "plant")
    parts = [
        box((0.5, length, 0.3), (0, 0, 0), shell),
        box((0.3, length * 0.96, height - 0.3), (0, 0, 0.3), shell, (0.7, 1)),
    ]
    return labelled(Kind.BARRIER, *parts)


def _board(rng: Rng, split: Split) -> Mesh:
    """A striped board on two feet."""
    length = rng.uniform(1.6, 2.4)
    metal = paint(rng, split, "metal")
    board = box((0.06, length, 0.3), (0, 0, 0.75), paint(rng, split, "board", tile=(0.8, 0.3)))
    lower = box((0.06, length, 0.18), (0, 0, 0.3), paint(rng, split, "board", tile=(0.8, 0.2)))
    feet = [
        beam((x, y * length * 0.4, 0), (0, y * length * 0.4, 1.0), 0.06, metal) for y in (-1, 1) for x in (-0.3, 0.3)
    ]
    return labelled(Kind.BARRIER, board, lower, *feet)


def _planks(rng: Rng, split: Split) -> Mesh:
    """Three boards on posts with heavy feet."""
    length = rng.uniform(1.8, 2.4)
    posts = [box((0.1, 0.1, 1.05), (0, y * length * 0.45, 0), paint(rng, split, "metal")) for y in (-1, 1)]
    feet = [box((0.6, 0.2, 0.12), (0, y * length * 0.45, 0), paint(rng, split, "concrete")) for y in (-1, 1)]
    board = paint(rng, split, "board", tile=(0.6, 0.22))
    return labelled(
        Kind.BARRIER, *posts, *feet, *(box((0.05, length, 0.22), (0, 0, z), board) for z in (0.2, 0.5, 0.8))
    )


BARRIERS: Families = {
    "train": {"jersey": lambda rng, split: _concrete(rng, split, _JERSEY), "plastic": _plastic, "board": _board},
    "val": {"stepped": lambda rng, split: _concrete(rng, split, _STEP), "planks": _planks},
}


def _cone(rng: Rng, split: Split, height: float, radius: float, square: bool) -> Mesh:
    body = paint(rng, split, "cone", tile=(1.0, height))
    foot = paint(rng, split, "tyre") if square else body
    base = box((2.4 * radius, 2.4 * radius, 0.05), (0, 0, 0), foot)
    return labelled(
        Kind.CONE, base, tube((0, 0, 0.04), (0, 0, height), radius, body, end_radius=0.22 * radius, sides=9, caps=True)
    )


def _drum(rng: Rng, split: Split) -> Mesh:
    height = rng.uniform(0.9, 1.05)
    body = paint(rng, split, "cone", tile=(1.0, 0.6))
    return labelled(Kind.CONE, tube((0, 0, 0), (0, 0, height), 0.29, body, end_radius=0.22, sides=10, caps=True))


def _delineator(rng: Rng, split: Split) -> Mesh:
    body = paint(rng, split, "cone", tile=(1.0, 0.5))
    tip = tube((0, 0, 0.06), (0, 0, rng.uniform(0.9, 1.1)), 0.13, body, end_radius=0.08, sides=8, caps=True)
    return labelled(Kind.CONE, box((0.42, 0.42, 0.07), (0, 0, 0), paint(rng, split, "tyre")), tip)


CONES: Families = {
    "train": {
        "classic": lambda rng, split: _cone(rng, split, rng.uniform(0.6, 0.85), rng.uniform(0.16, 0.21), True),
        "drum": _drum,
    },
    "val": {
        "tall": lambda rng, split: _cone(rng, split, rng.uniform(0.85, 1.1), rng.uniform(0.17, 0.22), False),
        "delineator": _delineator,
    },
}


def _post(rng: Rng, split: Split, height: float, radius: float) -> Mesh:
    return labelled(
        Kind.POLE,
        tube((0, 0, -0.2), (0, 0, height), radius, paint(rng, split, "metal"), end_radius=0.7 * radius, sides=7),
    )


def _lamp(rng: Rng, split: Split) -> Mesh:
    height, reach = rng.uniform(5.5, 8.5), rng.uniform(0.8, 2.2)
    metal = paint(rng, split, "metal")
    arm = beam((0, 0, height), (reach, 0, height + 0.3), 0.1, metal)
    return join(
        [
            _post(rng, split, height, 0.11),
            labelled(Kind.POLE, arm, box((0.7, 0.3, 0.12), (reach, 0, height + 0.2), metal)),
        ]
    )


def _lantern(rng: Rng, split: Split) -> Mesh:
    height = rng.uniform(3.2, 4.4)
    head = box((0.4, 0.4, 0.6), (0, 0, height), paint(rng, split, "glass"), (0.6, 0.6))
    return join([_post(rng, split, height, 0.09), labelled(Kind.POLE, head)])


def _sign(rng: Rng, split: Split) -> Mesh:
    height, size = rng.uniform(2.0, 2.9), rng.uniform(0.6, 0.95)
    plate = face(0.08, size, height - size, height, paint(rng, split, "sign"))
    return join([_post(rng, split, height, 0.05), labelled(Kind.SIGN, plate)])


def _traffic_light(rng: Rng, split: Split) -> Mesh:
    height = rng.uniform(2.8, 3.6)
    head = box((0.3, 0.35, 0.95), (0.15, 0, height - 0.95), paint(rng, split, "metal"))
    return join([_post(rng, split, height, 0.08), labelled(Kind.POLE, head)])


def _gantry(rng: Rng, split: Split) -> Mesh:
    """A direction board on two posts."""
    width = rng.uniform(1.8, 3.0)
    posts = [moved(_post(rng, split, 3.2, 0.08), y=y * width * 0.4) for y in (-1, 1)]
    return join([*posts, labelled(Kind.SIGN, face(0.1, width, 1.9, 3.2, paint(rng, split, "sign")))])


def _placard(rng: Rng, split: Split) -> Mesh:
    """A round plate on a post."""
    height, radius = rng.uniform(2.1, 2.9), rng.uniform(0.32, 0.45)
    angle = np.arange(10) * (2 * np.pi / 10)
    at = height - radius
    ring = np.stack([np.full(10, 0.08), radius * np.cos(angle), at + radius * np.sin(angle)], -1)
    return join(
        [_post(rng, split, height, 0.05), labelled(Kind.SIGN, polygon(ring, paint(rng, split, "sign"), fit=True))]
    )


POLES: Families = {
    "train": {"lamp": _lamp, "sign": _sign, "traffic_light": _traffic_light},
    "val": {"lantern": _lantern, "gantry": _gantry, "placard": _placard},
}


def _bin(rng: Rng, split: Split) -> Mesh:
    return labelled(
        Kind.FURNITURE, box((0.6, 0.6, rng.uniform(0.9, 1.2)), (0, 0, 0), paint(rng, split, "paint"), (1.1, 1.1))
    )


def _bench(rng: Rng, split: Split) -> Mesh:
    wood, legs = paint(rng, split, "wood"), paint(rng, split, "metal")
    seat, back = box((0.45, 1.6, 0.06), (0, 0, 0.42), wood), box((0.06, 1.6, 0.4), (-0.24, 0, 0.5), wood)
    return labelled(Kind.FURNITURE, seat, back, *(box((0.4, 0.08, 0.42), (0, y, 0), legs) for y in (-0.6, 0.6)))


def _shelter(rng: Rng, split: Split) -> Mesh:
    glass, metal = paint(rng, split, "glass"), paint(rng, split, "metal")
    roof = box((1.6, 3.8, 0.12), (0, 0, 2.4), metal)
    posts = [beam((x, y, 0), (x, y, 2.4), 0.08, metal) for x in (-0.7, 0.7) for y in (-1.8, 1.8)]
    poster = face(-0.6, 1.1, 0.5, 2.2, paint(rng, split, "cargo"))
    return labelled(Kind.FURNITURE, roof, *posts, box((0.04, 3.6, 1.7), (-0.75, 0, 0.4), glass), poster)


def _cabinet(rng: Rng, split: Split) -> Mesh:
    size = rng.uniform(0.4, 0.6), rng.uniform(0.8, 1.6), rng.uniform(1.0, 1.6)
    return labelled(Kind.FURNITURE, box(size, (0, 0, 0), paint(rng, split, "metal")))


def _kiosk(rng: Rng, split: Split) -> Mesh:
    """A hut with a counter under an overhanging roof."""
    hut = box((2.0, 2.6, 2.4), (0, 0, 0), paint(rng, split, "shop", tile=(2.6, 2.4)))
    return labelled(Kind.FURNITURE, hut, box((2.8, 3.2, 0.2), (0, 0, 2.4), paint(rng, split, "roof")))


def _column(rng: Rng, split: Split) -> Mesh:
    """An advertising column."""
    height, radius = rng.uniform(2.4, 3.2), rng.uniform(0.5, 0.7)
    body = tube((0, 0, 0), (0, 0, height), radius, paint(rng, split, "cargo"), sides=12, caps=True)
    lid = tube((0, 0, height), (0, 0, height + 0.3), 1.2 * radius, paint(rng, split, "roof"), end_radius=0.1, sides=12)
    return labelled(Kind.FURNITURE, body, lid)


FURNITURE: Families = {
    "train": {"bin": _bin, "bench": _bench, "shelter": _shelter},
    "val": {"cabinet": _cabinet, "kiosk": _kiosk, "column": _column},
}


def fence(rng: Rng, split: Split, length: float) -> Mesh:
    """A fence along x: a wall or boards (training), railings or boards on a plinth (validation)."""
    height = rng.uniform(0.8, 2.0)
    if split == "train":
        panel = paint(rng, split, "wall" if rng.random() < 0.5 else "wood")
        return labelled(Kind.FENCE, box((length, 0.15, height + 0.3), (0, 0, -0.3), panel))
    plinth = box((length, 0.25, 0.7), (0, 0, -0.3), paint(rng, split, "wall"))
    metal = paint(rng, split, "metal")
    rails = [box((length, 0.05, 0.08), (0, 0, z), metal) for z in (0.6, height)]
    posts = [box((0.05, 0.05, height), (x, 0, 0), metal) for x in np.arange(-length / 2, length / 2 + 0.01, 0.3)]
    return labelled(Kind.FENCE, plinth, *rails, *posts)
