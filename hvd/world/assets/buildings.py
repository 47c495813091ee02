"""Buildings along x, their front at y = 0 facing -y (towards the road), ground at z = 0."""

import numpy as np

from hvd.world.assets.parts import Families
from hvd.world.kinds import Kind
from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import Mesh, box, join, labelled, moved, polygon, quads, sheet

Rng = np.random.Generator
FOUNDATION_M = 4.0  # depth below ground, so that no slope shows a gap


def _walls(length: float, depth: float, low: float, high: float, surface: Surface) -> Mesh:
    """Four walls, textured from `low` upwards."""
    x, corner = length / 2, [(-1, 0), (1, 0), (1, 1), (-1, 1)]
    ring = np.array([[u * x, v * depth] for u, v in corner])
    after = np.roll(ring, -1, axis=0)
    faces = [[[*a, low], [*b, low], [*b, high], [*a, high]] for a, b in zip(ring, after, strict=True)]
    return quads(np.array(faces), surface)


def _block(length: float, depth: float, storeys: int, rng: Rng, split: Split, shop: bool) -> Mesh:
    """A foundation, a ground floor (shop windows or not), and storeys of windows."""
    facade = paint(rng, split, "facade")
    storey = facade.tile[1] / 2
    base = storey if shop else 0.0
    front = paint(rng, split, "shop", base=facade.colours[0], tile=(rng.uniform(4, 6), storey))
    plinth = paint(rng, split, "wall", base=facade.colours[0])
    parts = [
        _walls(length, depth, -FOUNDATION_M, 0.0, plinth),
        _walls(length, depth, base, storeys * storey + base, facade),
    ]
    return join([*parts, _walls(length, depth, 0.0, base, front)]) if shop else join(parts)


def _height(mesh: Mesh) -> float:
    return float(mesh.corner[..., 2].max())


def _flat_roof(length: float, depth: float, height: float, rng: Rng, split: Split) -> Mesh:
    roof = paint(rng, split, "roof")
    lid = box((length + 0.4, depth + 0.4, rng.uniform(0.3, 0.9)), (0, depth / 2, height), roof)
    hut = box((3, 3, 2), (rng.uniform(-0.2, 0.2) * length, depth / 2, height), roof)
    return join([lid, hut])


def _gable_roof(length: float, depth: float, height: float, rng: Rng, split: Split, hip: float) -> Mesh:
    """A ridge along x, its ends drawn in by `hip` metres (0: gables)."""
    roof, wall = paint(rng, split, "roof"), paint(rng, split, "wall")
    x, out, rise = length / 2 + 0.3, 0.4, rng.uniform(0.25, 0.5) * depth
    eaves = np.array([[-x, -out, height], [x, -out, height], [x, depth + out, height], [-x, depth + out, height]])
    ridge = np.array([[x - hip, depth / 2, height + rise], [-x + hip, depth / 2, height + rise]])
    slopes = quads(np.array([[eaves[0], eaves[1], ridge[0], ridge[1]], [eaves[2], eaves[3], ridge[1], ridge[0]]]), roof)
    ends = [
        polygon(np.array(end), roof if hip else wall)
        for end in ([eaves[1], eaves[2], ridge[0]], [eaves[3], eaves[0], ridge[1]])
    ]
    chimney = box((0.6, 0.6, rise + 0.8), (0.3 * length, depth * 0.5, height), wall)
    return join([slopes, *ends, chimney])


def _door(rng: Rng, split: Split, x: float) -> Mesh:
    panel = paint(rng, split, "wood", tile=(1, 1))
    return sheet([[x, -0.03, 0.0], [x + 1.0, -0.03, 0.0], [x + 1.0, -0.03, 2.1], [x, -0.03, 2.1]], panel)


def _balconies(length: float, height: float, rng: Rng, split: Split) -> Mesh:
    slab = paint(rng, split, "metal")
    x = rng.uniform(-0.35, 0.35) * length
    return join(box((2.4, 1.1, 1.0), (x, -0.55, z), slab) for z in np.arange(3.2, max(height - 2, 3.3), 3.0))


def _terrace(rng: Rng, split: Split) -> Mesh:
    length, depth = rng.uniform(9, 15), rng.uniform(7, 9)
    block = _block(length, depth, int(rng.integers(2, 4)), rng, split, shop=False)
    roof = _gable_roof(length, depth, _height(block), rng, split, 0.0)
    return labelled(Kind.BUILDING, block, roof, _door(rng, split, rng.uniform(-0.3, 0.2) * length))


def _office(rng: Rng, split: Split) -> Mesh:
    length, depth = rng.uniform(12, 22), rng.uniform(9, 12)
    block = _block(length, depth, int(rng.integers(3, 7)), rng, split, shop=True)
    height = _height(block)
    extra = [_balconies(length, height, rng, split)] if rng.random() < 0.4 else []
    return labelled(Kind.BUILDING, block, _flat_roof(length, depth, height, rng, split), *extra)


def _cottage(rng: Rng, split: Split) -> Mesh:
    length, depth = rng.uniform(7, 10), rng.uniform(6, 8)
    block = _block(length, depth, int(rng.integers(1, 3)), rng, split, shop=False)
    roof = _gable_roof(length, depth, _height(block), rng, split, 0.0)
    porch = box((2.2, 1.4, 2.5), (rng.uniform(-2, 2), -0.7, 0), paint(rng, split, "wall"))
    return labelled(Kind.BUILDING, block, roof, porch)


def _villa(rng: Rng, split: Split) -> Mesh:
    length, depth = rng.uniform(9, 13), rng.uniform(8, 10)
    block = _block(length, depth, int(rng.integers(1, 3)), rng, split, shop=False)
    roof = _gable_roof(length, depth, _height(block), rng, split, depth / 2)
    bay = moved(_block(3.0, 1.2, 1, rng, split, shop=False), rng.uniform(-2, 2), -1.2)
    return labelled(Kind.BUILDING, block, roof, bay)


def _stepped(rng: Rng, split: Split) -> Mesh:
    """A tower that steps back once."""
    length, depth = rng.uniform(14, 22), rng.uniform(10, 13)
    low = _block(length, depth, int(rng.integers(2, 4)), rng, split, shop=True)
    upper = moved(_block(length * 0.6, depth * 0.6, 3, rng, split, shop=False), 0.0, depth * 0.3, _height(low) + 0.3)
    lids = [
        _flat_roof(length, depth, _height(low), rng, split),
        _flat_roof(length * 0.6, depth, _height(upper), rng, split),
    ]
    return labelled(Kind.BUILDING, low, upper, *lids)


def _hall(rng: Rng, split: Split) -> Mesh:
    """A long hall with few openings and a low roof."""
    length, depth, height = rng.uniform(15, 24), rng.uniform(10, 14), rng.uniform(4.5, 7)
    walls = _walls(length, depth, -FOUNDATION_M, height, paint(rng, split, "wall"))
    gate = paint(rng, split, "roof")
    gates = [
        sheet([[x, -0.04, 0], [x + 3.2, -0.04, 0], [x + 3.2, -0.04, 3.4], [x, -0.04, 3.4]], gate)
        for x in (-0.35 * length, 0.1 * length)
    ]
    return labelled(Kind.BUILDING, walls, *gates, _gable_roof(length, depth, height, rng, split, depth / 2))


BUILDINGS: Families = {
    "train": {"terrace": _terrace, "office": _office, "cottage": _cottage},
    "val": {"villa": _villa, "stepped": _stepped, "hall": _hall},
}
