"""Trees, bushes and hedges: crowns are clouds of leaves around a rough core, so that rays pass their rims."""

import numpy as np

from hvd.world.assets.parts import Families
from hvd.world.kinds import Kind
from hvd.world.materials import Split, Surface, paint
from hvd.world.mesh import Mesh, bent_tube, blob, box, join, labelled, leaves, tube

Rng = np.random.Generator


def _crown(
    at: tuple[float, float, float], radii: tuple[float, float, float], surface: Surface, rng: Rng, count: int
) -> Mesh:
    core = blob(np.asarray(radii) * 0.6, at, surface, rng, 0.25, rings=4, sides=7)
    return join([core, leaves(at, radii, count, 0.24 + 0.08 * float(np.mean(radii)), surface, rng)])


def _trunk(height: float, radius: float, rng: Rng, split: Split) -> Mesh:
    lean = rng.normal(0, 0.05 * height, 2)
    bark = paint(rng, split, "bark")
    stem = tube((0, 0, -0.3), (*lean, height), radius, bark, end_radius=0.6 * radius, sides=7)
    boughs = [
        bent_tube([(*lean * 0.8, height * 0.8), (*(lean + rng.normal(0, 0.9, 2)), height * 1.25)], 0.3 * radius, bark)
        for _ in range(3)
    ]
    return labelled(Kind.TRUNK, stem, *boughs)


def _broadleaf(rng: Rng, split: Split) -> Mesh:
    stem, size = rng.uniform(2.0, 3.2), rng.uniform(1.5, 2.6)
    leaf = paint(rng, split, "leaf")
    tops = [
        (rng.normal(0, 0.4 * size), rng.normal(0, 0.4 * size), stem + size * rng.uniform(0.5, 1.1)) for _ in range(3)
    ]
    crowns = [_crown(top, (size, size, 0.8 * size), leaf, rng, 90) for top in tops]
    return join([_trunk(stem + 0.4 * size, rng.uniform(0.13, 0.25), rng, split), labelled(Kind.VEGETATION, *crowns)])


def _conifer(rng: Rng, split: Split) -> Mesh:
    height, radius = rng.uniform(5, 9), rng.uniform(1.2, 2.0)
    needle = paint(rng, split, "needle")
    tiers = np.linspace(0.12, 0.85, 4)
    cones = [
        tube((0, 0, t * height), (0, 0, (t + 0.32) * height), radius * (1.05 - t), needle, end_radius=0.08, sides=8)
        for t in tiers
    ]
    frill = [
        leaves((0, 0, t * height), (radius * (1.05 - t), radius * (1.05 - t), 0.4), 45, 0.3, needle, rng) for t in tiers
    ]
    return join([_trunk(0.3 * height, 0.16, rng, split), labelled(Kind.VEGETATION, *cones, *frill)])


def _poplar(rng: Rng, split: Split) -> Mesh:
    height, radius = rng.uniform(6, 10), rng.uniform(0.8, 1.2)
    leaf = paint(rng, split, "leaf")
    crown = _crown((0, 0, 0.58 * height), (radius, radius, 0.45 * height), leaf, rng, 200)
    return join([_trunk(0.35 * height, 0.15, rng, split), labelled(Kind.VEGETATION, crown)])


def _umbrella_tree(rng: Rng, split: Split) -> Mesh:
    stem, size = rng.uniform(2.8, 4.0), rng.uniform(2.0, 3.0)
    leaf = paint(rng, split, "leaf")
    crown = _crown((0, 0, stem + 0.3), (size, size, 0.9), leaf, rng, 220)
    return join([_trunk(stem, rng.uniform(0.15, 0.28), rng, split), labelled(Kind.VEGETATION, crown)])


def _palm(rng: Rng, split: Split) -> Mesh:
    height = rng.uniform(3.5, 6.0)
    leaf = paint(rng, split, "leaf")
    angles = rng.uniform(0, 6.3) + np.arange(9) * (2 * np.pi / 9)
    fronds = [
        leaves(
            (np.cos(a) * 1.1, np.sin(a) * 1.1, height + 0.1),
            (0.5 + np.abs(np.cos(a)), 0.5 + np.abs(np.sin(a)), 0.5),
            24,
            0.34,
            leaf,
            rng,
        )
        for a in angles
    ]
    return join([_trunk(height, 0.16, rng, split), labelled(Kind.VEGETATION, *fronds)])


TREES: Families = {
    "train": {"broadleaf": _broadleaf, "conifer": _conifer},
    "val": {"poplar": _poplar, "umbrella": _umbrella_tree, "palm": _palm},
}


def _round_bush(rng: Rng, split: Split) -> Mesh:
    size = rng.uniform(0.5, 1.1)
    return labelled(
        Kind.VEGETATION, _crown((0, 0, 0.7 * size), (size, size, 0.8 * size), paint(rng, split, "leaf"), rng, 60)
    )


def _shrub_row(rng: Rng, split: Split) -> Mesh:
    leaf, size = paint(rng, split, "leaf"), rng.uniform(0.4, 0.7)
    return labelled(
        Kind.VEGETATION, *(_crown((x, 0, 0.6 * size), (size, size, size), leaf, rng, 40) for x in (-1.0, 0.0, 1.0))
    )


BUSHES: Families = {"train": {"round": _round_bush}, "val": {"row": _shrub_row}}


def hedge(rng: Rng, split: Split, length: float) -> Mesh:
    """A hedge along x: clipped to a box (training) or a row of clipped balls (validation)."""
    height, width, leaf = rng.uniform(0.8, 2.0), rng.uniform(0.5, 0.9), paint(rng, split, "leaf")
    if split == "train":
        core = box((length, width * 0.8, height * 0.95 + 0.3), (0, 0, -0.3), leaf)
    else:
        radii, step = (0.5 * height, 0.5 * width, 0.5 * height), 0.75 * height
        core = join(
            blob(radii, (x, 0, 0.45 * height), leaf, rng, 0.1, rings=4, sides=7)
            for x in np.arange(-0.5 * length, 0.5 * length, step)
        )
    fringe = leaves((0, 0, height / 2), (length / 2, width * 0.7, height * 0.62), int(60 * length), 0.2, leaf, rng)
    return labelled(Kind.VEGETATION, core, fringe)
