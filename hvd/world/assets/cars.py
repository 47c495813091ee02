"""Cars: a lower body and a glazed cabin, both extruded from a side view, on four wheels."""

from dataclasses import dataclass

import numpy as np

from hvd.world.assets.parts import Builder, Families, axles, face
from hvd.world.kinds import Kind
from hvd.world.materials import Split, paint
from hvd.world.mesh import Mesh, box, labelled, prism
from hvd.world.palette import colour


@dataclass(frozen=True)
class CarShape:
    """Side view in metres (length, width, height) and in shares of the length from the rear bumper."""

    size: tuple[float, float, float]
    belt: float  # height where the glass begins, share of the height
    nose: float  # height of the bonnet's front edge, share of the belt
    tail: float  # height of the boot's rear edge, share of the belt
    cabin: tuple[float, float, float, float]  # rear foot, rear roof, front roof, front foot
    narrow: float  # width of the roof, share of the width


SHAPES: dict[Split, dict[str, CarShape]] = {
    "train": {
        "sedan": CarShape((4.6, 1.82, 1.45), 0.62, 0.82, 0.95, (0.12, 0.25, 0.55, 0.72), 0.78),
        "hatchback": CarShape((3.9, 1.72, 1.5), 0.6, 0.85, 1.0, (0.02, 0.1, 0.55, 0.75), 0.8),
        "suv": CarShape((4.6, 1.9, 1.75), 0.6, 0.92, 1.0, (0.02, 0.07, 0.58, 0.72), 0.84),
        "minivan": CarShape((4.7, 1.88, 1.85), 0.52, 0.85, 1.0, (0.01, 0.04, 0.62, 0.84), 0.84),
    },
    "val": {
        "estate": CarShape((4.75, 1.83, 1.5), 0.61, 0.82, 1.0, (0.02, 0.1, 0.55, 0.71), 0.8),
        "coupe": CarShape((4.35, 1.82, 1.35), 0.63, 0.75, 0.9, (0.06, 0.32, 0.5, 0.7), 0.72),
        "offroader": CarShape((4.2, 1.85, 1.85), 0.6, 1.0, 1.0, (0.02, 0.03, 0.6, 0.66), 0.92),
        "microcar": CarShape((2.9, 1.6, 1.55), 0.55, 0.9, 1.0, (0.05, 0.12, 0.6, 0.86), 0.8),
    },
}


def car(shape: CarShape, rng: np.random.Generator, split: Split) -> Mesh:
    """One car of a shape, its sizes varied by a few percent."""
    length, width, height = np.asarray(shape.size) * rng.uniform(0.94, 1.06, 3)
    x = (np.asarray(shape.cabin) - 0.5) * length
    belt, clear, radius = shape.belt * height, rng.uniform(0.16, 0.26), rng.uniform(0.29, 0.36)
    half = length / 2
    body = paint(rng, split, "paint")
    glass = paint(rng, split, "glass")
    side = paint(rng, split, "cabin", base=body.colours[0], accent=glass.colours[0], tile=(1, 1))
    lower = [
        (-half, clear),
        (half * 0.96, clear),
        (half, clear + 0.25),
        (half * 0.98, shape.nose * belt),
        (x[3], belt),
        (x[0], belt),
        (-half * 0.99, shape.tail * belt),
    ]
    cabin = [(x[0], belt), (x[3], belt), (x[2], height), (x[1], height)]
    front, rear = (
        paint(rng, split, "face", base=body.colours[0], accent=colour(rng, groups))
        for groups in ("light", "vivid brick")
    )
    parts = [
        prism(lower, width, body, taper=0.96),
        prism(cabin, width * 0.95, side, [body, glass, body, glass], taper=shape.narrow, fit=True),
        face(half + 0.012, width * 0.92, clear + 0.05, shape.nose * belt, front),
        face(-half - 0.012, width * 0.92, clear + 0.05, shape.tail * belt, rear),
        axles((-0.3 * length, 0.31 * length), width - 0.2, radius, rng, split),
        *(box((0.12, 0.2, 0.14), (x[3] - 0.15, y * (width / 2 + 0.08), belt), body) for y in (-1, 1)),
    ]
    return labelled(Kind.CAR, *parts)


def _builder(shape: CarShape) -> Builder:
    return lambda rng, split: car(shape, rng, split)


CARS: Families = {split: {name: _builder(shape) for name, shape in shapes.items()} for split, shapes in SHAPES.items()}
