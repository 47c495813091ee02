"""People, on foot and riding: limbs, trunk and head as tubes and ellipsoids."""

import numpy as np

from hvd.world.assets.parts import Families, beam
from hvd.world.kinds import Kind
from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import Mesh, bent_tube, blob, box, join, labelled, tube

Rng = np.random.Generator


def _head(at: tuple[float, float, float], size: float, rng: Rng, split: Split) -> Mesh:
    x, y, z = at
    skin, hair = paint(rng, split, "skin"), paint(rng, split, "hair")
    cap = blob((0.11 * size, 0.1 * size, 0.09 * size), (x - 0.02, y, z + 0.06 * size), hair, rings=4, sides=6)
    return join([blob((0.1 * size, 0.09 * size, 0.13 * size), at, skin, rings=4, sides=6), cap])


def _torso(low: float, high: float, breadth: float, shirt: Surface, lean: float = 0.0) -> Mesh:
    return tube((0, 0, low), (lean, 0, high), 0.75 * breadth, shirt, end_radius=breadth, sides=7, caps=True)


def _walker(rng: Rng, split: Split, height: float, skirt: bool = False) -> Mesh:
    """A person on foot, mid-stride."""
    k = height / 1.75
    stride, swing = rng.uniform(0.05, 0.35) * k, rng.uniform(0.0, 0.3) * k
    shirt, trousers = paint(rng, split, "cloth"), paint(rng, split, "cloth")
    hip, neck = 0.88 * k, 1.48 * k
    breadth = rng.uniform(0.18, 0.24) * k
    legs = [
        bent_tube([(0, y, hip), (s * stride * 0.6, y, 0.48 * k), (s * stride, y, 0.05)], 0.085 * k, trousers, 5)
        for y, s in ((-0.1 * k, 1), (0.1 * k, -1))
    ]
    arms = [
        bent_tube(
            [
                (0, y * breadth * 1.1, neck - 0.05),
                (-s * swing * 0.5, y * breadth * 1.25, 1.12 * k),
                (-s * swing + 0.1, y * breadth * 1.2, 0.88 * k),
            ],
            0.05 * k,
            shirt,
            4,
        )
        for y, s in ((-1, 1), (1, -1))
    ]
    coat = [tube((0, 0, 0.45 * k), (0, 0, hip + 0.1), 0.3 * k, trousers, end_radius=0.18 * k, sides=8)] if skirt else []
    body = [_torso(hip - 0.05, neck, breadth, shirt), _head((0.02, 0, 1.63 * k), k, rng, split)]
    return join([*legs, *arms, *coat, *body])


def _adult(rng: Rng, split: Split) -> Mesh:
    return labelled(Kind.PEDESTRIAN, _walker(rng, split, rng.uniform(1.55, 1.95)))


def _child(rng: Rng, split: Split) -> Mesh:
    return labelled(Kind.PEDESTRIAN, _walker(rng, split, rng.uniform(1.1, 1.45)))


def _backpacker(rng: Rng, split: Split) -> Mesh:
    pack = box((0.25, 0.34, 0.5), (-0.3, 0, 1.0), paint(rng, split, "cloth"), (0.8, 0.8))
    return labelled(Kind.PEDESTRIAN, _walker(rng, split, rng.uniform(1.6, 1.9)), pack)


def _dressed(rng: Rng, split: Split) -> Mesh:
    return labelled(Kind.PEDESTRIAN, _walker(rng, split, rng.uniform(1.5, 1.8), skirt=True))


def _with_umbrella(rng: Rng, split: Split) -> Mesh:
    cloth = paint(rng, split, "cloth")
    shade = tube((0.15, 0.1, 1.9), (0.15, 0.1, 2.15), 0.55, cloth, end_radius=0.05, sides=8)
    stick = tube((0.15, 0.1, 1.1), (0.15, 0.1, 2.1), 0.02, paint(rng, split, "metal"), sides=4)
    return labelled(Kind.PEDESTRIAN, _walker(rng, split, rng.uniform(1.55, 1.8)), shade, stick)


def _with_case(rng: Rng, split: Split) -> Mesh:
    case = box((0.25, 0.4, 0.6), (-0.6, -0.2, 0.05), paint(rng, split, "cloth"))
    handle = beam((-0.55, -0.2, 0.65), (-0.15, -0.25, 0.9), 0.04, paint(rng, split, "metal"))
    return labelled(Kind.PEDESTRIAN, _walker(rng, split, rng.uniform(1.6, 1.9)), case, handle)


PEOPLE: Families = {
    "train": {"adult": _adult, "child": _child, "backpacker": _backpacker},
    "val": {"dressed": _dressed, "with_umbrella": _with_umbrella, "with_case": _with_case},
}


def rider(rng: Rng, split: Split, seat: float, reach: float, lean: float, foot: float) -> Mesh:
    """Someone sitting at height `seat`, hands `reach` metres ahead, feet at height `foot`."""
    shirt, trousers = paint(rng, split, "cloth"), paint(rng, split, "cloth")
    neck = (lean, 0.0, seat + 0.56)
    legs = [
        bent_tube([(0, y * 0.1, seat), (0.38, y * 0.14, seat - 0.12), (0.18, y * 0.14, foot)], 0.08, trousers, 5)
        for y in (-1, 1)
    ]
    arms = [
        bent_tube(
            [(neck[0], y * 0.2, neck[2] - 0.06), (neck[0] + 0.2, y * 0.28, seat + 0.28), (reach, y * 0.26, seat + 0.2)],
            0.05,
            shirt,
            4,
        )
        for y in (-1, 1)
    ]
    helmet = blob((0.15, 0.13, 0.14), (lean + 0.05, 0, seat + 0.76), paint(rng, split, "paint"), rings=4, sides=7)
    return join([*legs, *arms, _torso(seat - 0.05, neck[2], 0.2, shirt, lean), helmet])
