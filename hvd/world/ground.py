"""The ground of a street as a mesh: a grid of cells along (rows, R) and across (columns, C)."""

import numpy as np
from numpy.typing import NDArray

from hvd.world.kinds import Kind
from hvd.world.materials import Surface
from hvd.world.mesh import F64, Mesh, join, labelled, quads, with_kinds
from hvd.world.street import REACH_M, SIDE_M, Street, Strip

_STEP_M = 2.5  # between rows
_COLUMN_M = 3.0  # the widest column
_ROUGH = {  # deviation of the corners' heights in metres, by use; what is not listed is even
    "island": 0.005,
    "plaza": 0.005,
    "walk": 0.005,
    "lot": 0.02,
    "verge": 0.05,
    "garden": 0.06,
    "field": 0.12,
}


def ground(street: Street, rng: np.random.Generator) -> Mesh:
    """The ground as a mesh: strips, rough where they are not paved, with faces where the level jumps."""
    rows = _rows(street)
    strips, edges = _columns(street)
    middle = 0.5 * (rows[:-1, None] + rows[1:, None])
    crossing = np.zeros((len(rows) - 1, len(strips)), dtype=bool)
    for turn in street.side_streets:
        beside = turn.side * 0.5 * (edges[1:] + edges[:-1]) > street.road_edge(turn.side)
        crossing |= (middle > turn.start) & (middle < turn.end) & beside
    corner = _grid(street, rows, edges, strips, crossing, rng)
    flat = [
        _cells(strip, corner[:, c], rows, edges[c : c + 2], crossing[:, c], street.road)
        for c, strip in enumerate(strips)
    ]
    kind = np.where(crossing, int(Kind.ROAD), np.array([int(strip.kind) for strip in strips]))
    return join([*(mesh for pair in flat for mesh in pair), *_kerbs(corner, kind, street.kerb)])


def _rows(street: Street) -> F64:
    cuts = [station for turn in street.side_streets for station in (turn.start, turn.end)]
    return np.asarray(np.unique(np.concatenate([np.arange(-REACH_M, REACH_M + 0.1, _STEP_M), cuts])))


def _columns(street: Street) -> tuple[list[Strip], F64]:
    """Strip of every column from right to left, and the (C + 1,) edges of the columns."""
    strips: list[Strip] = []
    edges: list[float] = []
    for side in (-1, 1):
        for strip in street.strips[side][::side]:
            count = int(np.ceil(strip.width / _COLUMN_M))
            strips += [strip] * count
            bounds = np.linspace(strip.near, strip.far, count + 1)
            edges += list(-bounds[::-1][:-1] if side < 0 else bounds[:-1])
    return strips, np.array([*edges, SIDE_M])


def _grid(
    street: Street, rows: F64, edges: F64, strips: list[Strip], crossing: NDArray[np.bool_], rng: np.random.Generator
) -> F64:
    """(R, C, 4, 3) corners of every cell: near right, near left, far left, far right."""
    s, d = np.meshgrid(rows, edges, indexing="ij")
    x, y, _ = street.plan(s, d)
    z = street.base(s, d)
    bumps = rng.normal(0, 1, z.shape)
    out = np.empty((len(rows) - 1, len(edges) - 1, 4, 3))
    level = np.where(crossing, 0.0, np.array([strip.level for strip in strips]))
    rough = np.where(crossing, 0.0, np.array([_ROUGH.get(strip.use, 0.0) for strip in strips]))
    for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 1), (1, 0))):
        at = np.s_[i : len(rows) - 1 + i, j : len(edges) - 1 + j]
        out[:, :, k] = np.stack([x[at], y[at], z[at] + level + rough * bumps[at]], -1)
    return out


def _cells(strip: Strip, corner: F64, rows: F64, edge: F64, crossing: NDArray[np.bool_], road: Surface) -> list[Mesh]:
    """Meshes of one column: its own strip, and the side streets that cut it."""
    across = np.abs(edge) - strip.near
    if strip.use == "lane" and strip.near == 0:
        across = strip.width - across  # the centre line's dashes belong on the inner side
    u = np.broadcast_to(across[[0, 1, 1, 0]], (len(rows) - 1, 4))
    v = np.stack([rows[:-1], rows[:-1], rows[1:], rows[1:]], 1)
    uv = np.stack([u, v], -1)
    parts = [(strip.kind, strip.surface, ~crossing), (Kind.ROAD, road, crossing)]
    return [labelled(kind, quads(corner[at], surface, uv[at])) for kind, surface, at in parts if at.any()]


def _kerbs(corner: F64, kind: NDArray[np.int_], surface: Surface) -> list[Mesh]:
    """Upright faces between neighbouring cells of different height; they belong to the higher cell."""
    across = (corner[:, :-1, [1, 2]], corner[:, 1:, [0, 3]], kind[:, :-1], kind[:, 1:])
    along = (corner[:-1, :, [3, 2]], corner[1:, :, [0, 1]], kind[:-1], kind[1:])
    out = []
    for one, other, kind_one, kind_other in (across, along):
        jump = np.abs(one[..., 2] - other[..., 2]).max(-1) > 0.01
        face = np.concatenate([one[jump], other[jump][:, ::-1]], 1)
        owner = np.where(one[jump][..., 2].mean(-1) > other[jump][..., 2].mean(-1), kind_one[jump], kind_other[jump])
        out.append(with_kinds(quads(face, surface), np.repeat(owner, 2)))
    return out
