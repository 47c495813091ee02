"""Procedural textures with two channels: which of a surface's two colours shows (mix), and how bright it is (shade).

Every painter takes a generator and returns (mix, shade) of (SIZE, SIZE), in 0..1 and about 1; row 0 is the bottom, and
both axes wrap. Several classes share a texture, and each surface brings its own colours: neither names a class.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]
Painted = tuple[Image, Image]

SIZE = 128  # texels along one repeat
_U, _V = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE)


def _noise(rng: np.random.Generator, cells: float, stretch: float = 1.0) -> Image:
    """Smooth noise that wraps, mean 0, deviation 1, with features of about 1 / `cells` of a repeat."""
    f = np.fft.fftfreq(SIZE, 1 / SIZE)
    falloff = np.exp(-((f[None] / stretch) ** 2 + (f[:, None] * stretch) ** 2) / (2 * cells**2))
    falloff[0, 0] = 0.0
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIZE, SIZE))) * falloff).real
    return np.asarray(field / field.std())


def _step(value: Image, at: float, width: float = 0.15) -> Image:
    return np.clip((value - at) / width + 0.5, 0, 1)


def _cells(count_u: int, count_v: int, shift: float = 0.0) -> tuple[Image, Image, NDArray[np.int64]]:
    """Position in 0..1 inside bricks laid in rows, each row shifted by `shift`, and the brick's number."""
    row = np.floor(_V * count_v)
    u = _U * count_u + shift * row
    number = (np.floor(u) % count_u) + count_u * row
    return u % 1.0, (_V * count_v) % 1.0, number.astype(np.int64)


def _tiles(rng: np.random.Generator, count_u: int, count_v: int, shift: float, joint: float) -> Painted:
    """Bricks or slabs: joints in the second colour, each brick a little brighter or darker."""
    u, v, number = _cells(count_u, count_v, shift)
    gap_u, gap_v = joint * count_u, joint * count_v
    mortar = ((np.minimum(u, 1 - u) < gap_u / 2) | (np.minimum(v, 1 - v) < gap_v / 2)).astype(float)
    shade = rng.uniform(0.82, 1.15, number.max() + 1)[number] + 0.04 * _noise(rng, 40)
    return mortar, shade


def _speckle(rng: np.random.Generator, cells: float, share: float, blotch: float) -> Painted:
    grain = _noise(rng, cells)
    return _step(grain, float(np.quantile(grain, 1 - share)), 0.6), 1 + blotch * _noise(rng, 3) + 0.05 * _noise(rng, 40)


def _cracked(rng: np.random.Generator) -> Painted:
    line = np.abs(_noise(rng, 4))
    grain = _noise(rng, 40)
    return _step(grain, 1.4, 0.8), (1 - 0.45 * (line < 0.04)) * (1 + 0.05 * grain)


def _patched(rng: np.random.Generator) -> Painted:
    patch = ((_U > 0.2) & (_U < 0.75) & (_V > 0.35) & (_V < 0.8)).astype(float)
    return _step(_noise(rng, 45), 1.5, 0.8), 1 - 0.22 * patch + 0.06 * _noise(rng, 35)


def _hexagons(rng: np.random.Generator) -> Painted:
    """Cells around the points of two interleaved lattices; joints lie where the two nearest points are equally far."""
    x, y, row = _U * 6, _V * 3 * np.sqrt(3), np.sqrt(3)
    distances = []
    for shift in (0.0, 0.5):
        at_x, at_y = np.round(x - shift) + shift, (np.round(y / row - shift) + shift) * row
        distances += [np.hypot(x - at_x - step, y - at_y) for step in (-1, 0, 1)]
    nearest, second = np.sort(np.stack(distances), axis=0)[:2]
    return 1 - _step(second - nearest, 0.12, 0.1), 1 + 0.06 * _noise(rng, 20)


def _herringbone(rng: np.random.Generator) -> Painted:
    x, y = np.floor(_U * 16), np.floor(_V * 16)
    lying = (x + y) % 8 < 4
    u, v = np.where(lying, (x + y) % 4, (x - y) % 4) / 4, np.where(lying, _V * 16 % 1, _U * 16 % 1)
    joint = (v < 0.14) | (u < 0.01)
    return joint.astype(float), 1 + 0.12 * lying + 0.06 * _noise(rng, 30)


def _cobbles(rng: np.random.Generator) -> Painted:
    u, v, number = _cells(10, 10, 0.5)
    dome = np.hypot(u - 0.5, v - 0.5)
    return _step(dome, 0.46, 0.12), (1.18 - 0.5 * dome**2) * rng.uniform(0.75, 1.2, number.max() + 1)[number]


def _blades(rng: np.random.Generator, stretch: float) -> Painted:
    blade = _noise(rng, 30, stretch)
    return _step(blade + 0.5 * _noise(rng, 5), 0.3, 1.2), 1 + 0.16 * blade + 0.12 * _noise(rng, 4)


def _tufts(rng: np.random.Generator) -> Painted:
    tuft = _noise(rng, 12)
    return _step(tuft, 0.6, 0.5), 1 + 0.2 * tuft + 0.1 * _noise(rng, 45)


def _ribs(rng: np.random.Generator, count: int, vertical: bool) -> Painted:
    wave = np.cos(2 * np.pi * count * (_U if vertical else _V))
    return _step(_noise(rng, 6), 1.6, 0.5), 1 + 0.2 * wave + 0.03 * _noise(rng, 30)


def _boards(rng: np.random.Generator, count: int, vertical: bool) -> Painted:
    mix, shade = _tiles(rng, count if vertical else 1, 1 if vertical else count, 0.0, 0.012)
    return 0.8 * mix, shade * (1 + 0.06 * _noise(rng, 20, 0.2 if vertical else 5.0))


def _stripes(rng: np.random.Generator, count: int, slant: int, duty: float = 0.5) -> Painted:
    wave = (_V * count + _U * slant) % 1.0
    return (wave < duty).astype(float), 1 + 0.04 * _noise(rng, 12)


def _check(rng: np.random.Generator) -> Painted:
    return ((np.floor(_U * 4) + np.floor(_V * 4)) % 2), 1 + 0.04 * _noise(rng, 12)


def _window(u: Image, v: Image, shape: str) -> tuple[Image, Image]:
    """Glass (0..1) and frame (0..1) of one bay, u and v in 0..1 from its lower left corner."""
    left, right, low, high, bars = {
        "tall": (0.3, 0.7, 0.15, 0.85, 1),
        "wide": (0.12, 0.88, 0.3, 0.75, 3),
        "square": (0.25, 0.75, 0.3, 0.8, 2),
        "band": (0.0, 1.0, 0.38, 0.8, 2),
        "door": (0.28, 0.72, 0.02, 0.8, 2),
        "arched": (0.28, 0.72, 0.18, 0.68, 1),
        "slits": (0.1, 0.9, 0.12, 0.9, 5),
        "pair": (0.14, 0.86, 0.22, 0.78, 2),
    }[shape]
    inside = (u > left) & (u < right) & (v > low) & (v < high)
    if shape == "arched":
        inside |= ((u - 0.5) / 0.22) ** 2 + ((v - high) / 0.2) ** 2 < 1
    across = ((u - left) / (right - left) * bars) % 1.0
    bar = np.minimum(across, 1 - across) < {"pair": 0.16, "slits": 0.28}.get(shape, 0.07)
    rim = (u > left - 0.05) & (u < right + 0.05) & (v > low - 0.05) & (v < high + 0.05) & ~inside
    return (inside & ~bar).astype(float), (rim | (inside & bar)).astype(float)


def _facade(rng: np.random.Generator, shape: str, wall: Callable[[np.random.Generator], Painted]) -> Painted:
    """Two bays by two storeys of windows in a wall; one repeat of the texture is 2 x 2 bays."""
    u, v, number = _cells(2, 2)
    glass, frame = _window(u, v, shape)
    mortar, shade = wall(rng)
    pane = rng.uniform(0.7, 1.5, 4)[number] * (1 + 0.35 * (v - 0.5))
    shade = np.where(glass > 0, pane, np.where(frame > 0, 1.3, shade))
    return np.where(glass > 0, 1.0, np.where(frame > 0, 0.0, 0.35 * mortar)), shade


def _shop(rng: np.random.Generator) -> Painted:
    u, v, number = _cells(2, 1)
    glass = (u > 0.07) & (u < 0.93) & (v > 0.12) & (v < 0.68)
    sign = (v > 0.76) & (v < 0.95) & (_noise(rng, 12, 2.0) > 0.2) & (u > 0.2) & (u < 0.8)
    shade = np.where(glass, 0.8 + 0.5 * _step(_noise(rng, 8), 0.5) * rng.uniform(0.5, 1, 2)[number], 1.0)
    return (glass | sign).astype(float), shade


def _awning(rng: np.random.Generator) -> Painted:
    """Shop windows under striped awnings."""
    u, v, number = _cells(3, 1)
    glass = (u > 0.1) & (u < 0.9) & (v > 0.08) & (v < 0.6)
    awning = (v > 0.64) & (v < 0.86) & ((u * 5) % 1.0 < 0.5)
    return (glass | awning).astype(float), np.where(glass, rng.uniform(0.7, 1.3, 3)[number], 1.0)


def _panes(rng: np.random.Generator, count: int, low: float, high: float) -> Painted:
    """Side of a bus: a band of panes in the second colour over painted panels."""
    across = (_U * count) % 1.0
    glass = (low < _V) & (high > _V) & (across > 0.07) & (across < 0.93)
    seam = (np.minimum(across, 1 - across) < 0.03) & (low > _V)
    stripe = 1 - 0.3 * ((_V > 0.16) & (_V < 0.24))
    return glass.astype(float), np.where(glass, 0.7 + 0.6 * _V, stripe * (1 - 0.3 * seam)) + 0.02 * _noise(rng, 5)


def _wheel(rng: np.random.Generator, spokes: int) -> Painted:
    """A tyre (first colour) with a rim of spokes (second colour)."""
    radius, angle = 2 * np.hypot(_U - 0.5, _V - 0.5), np.arctan2(_V - 0.5, _U - 0.5)
    rim = radius < 0.66
    spoke = (np.cos(spokes * angle) > -0.2) | (radius < 0.22) | (radius > 0.58)
    return (rim & spoke).astype(float), np.where(rim & ~spoke, 0.4, 1.0) + 0.02 * _noise(rng, 20)


def _face(rng: np.random.Generator, lamps: float) -> Painted:
    """Front or rear of a vehicle: lamps at both ends, a grille and a number plate between."""
    side = np.minimum(_U, 1 - _U)
    lamp = (side > 0.03) & (side < 0.03 + lamps) & (_V > 0.5) & (_V < 0.82)
    grille = (_U > 0.27) & (_U < 0.73) & (_V > 0.45) & (_V < 0.75) & ((_V * 24) % 1.0 < 0.5)
    plate = (np.abs(_U - 0.5) < 0.14) & (np.abs(_V - 0.26) < 0.08)
    dark = grille | (_V < 0.1)
    return (lamp | plate).astype(float), np.where(dark, 0.25, np.where(lamp, 1.6, 1.0)) + 0.02 * _noise(rng, 10)


def _folds(rng: np.random.Generator) -> Painted:
    return _step(_noise(rng, 3), 1.2, 0.3), 1 + 0.16 * _noise(rng, 5, 0.5)


def _plain(rng: np.random.Generator) -> Painted:
    return np.zeros((SIZE, SIZE)), 1 + 0.03 * _noise(rng, 4)


def _foliage(rng: np.random.Generator, cells: float) -> Painted:
    leaf = _noise(rng, cells)
    return _step(leaf, 0.4, 0.7), 1 + 0.3 * leaf


def _bark(rng: np.random.Generator) -> Painted:
    ridge = _noise(rng, 12, 3.0)
    return _step(ridge, 0.5, 0.5), 1 + 0.22 * ridge


def _emblem(rng: np.random.Generator) -> Painted:
    """A pictogram: a ring with a blot of another colour."""
    radius = 2 * np.hypot(_U - 0.5, _V - 0.5)
    blot = (_noise(rng, 3) > 0.5) & (radius < 0.7)
    return ((radius > 0.8) | blot).astype(float), np.ones((SIZE, SIZE))


def _print(rng: np.random.Generator) -> Painted:
    """Lines of writing in the second colour."""
    line = ((_V * 5) % 1.0 > 0.35) & ((_V * 5) % 1.0 < 0.8) & (_U > 0.08) & (_U < 0.92)
    return (line & (_noise(rng, 14, 0.6) > -0.1)).astype(float), 1 + 0.02 * _noise(rng, 6)


def _lane(rng: np.random.Generator, edge: bool) -> Painted:
    """One lane's width: asphalt with a line at its right: dashed, or full where the road ends."""
    mix, shade = _speckle(rng, 45, 0.1, 0.05)
    dash = (_U > 0.955) & (_V < 0.45) if not edge else (_U > 0.955)
    return np.where(dash, 1.0, 0.12 * mix), shade


def _brick(rng: np.random.Generator) -> Painted:
    return _tiles(rng, 8, 20, 0.5, 0.012)


TEXTURES: dict[str, Callable[[np.random.Generator], Painted]] = {
    "plain": _plain,
    "asphalt_fine": lambda rng: _speckle(rng, 50, 0.12, 0.05),
    "asphalt_cracked": _cracked,
    "asphalt_coarse": lambda rng: _speckle(rng, 28, 0.2, 0.09),
    "asphalt_patched": _patched,
    "lane_dashed": lambda rng: _lane(rng, edge=False),
    "lane_edge": lambda rng: _lane(rng, edge=True),
    "slabs": lambda rng: _tiles(rng, 4, 4, 0.5, 0.014),
    "slabs_square": lambda rng: _tiles(rng, 5, 5, 0.0, 0.012),
    "slabs_long": lambda rng: _tiles(rng, 2, 7, 0.33, 0.012),
    "herringbone": _herringbone,
    "hexagons": _hexagons,
    "cobbles": _cobbles,
    "setts": lambda rng: _tiles(rng, 12, 12, 0.5, 0.02),
    "gravel": lambda rng: _speckle(rng, 20, 0.35, 0.1),
    "hatching": lambda rng: _stripes(rng, 4, 4, 0.3),
    "grass": lambda rng: _blades(rng, 0.5),
    "grass_tufts": _tufts,
    "meadow": lambda rng: _blades(rng, 0.3),
    "tussocks": lambda rng: _speckle(rng, 14, 0.4, 0.14),
    "soil": lambda rng: _speckle(rng, 10, 0.25, 0.18),
    "brick": _brick,
    "brick_stack": lambda rng: _tiles(rng, 6, 16, 0.0, 0.014),
    "blocks": lambda rng: _tiles(rng, 3, 6, 0.5, 0.012),
    "plaster": lambda rng: _speckle(rng, 30, 0.1, 0.06),
    "stained": lambda rng: (_step(_noise(rng, 5, 3.0), 0.9, 0.8) * 0.7, 1 + 0.05 * _noise(rng, 30)),
    "siding": lambda rng: _boards(rng, 12, vertical=False),
    "planks": lambda rng: _boards(rng, 10, vertical=True),
    "ribs": lambda rng: _ribs(rng, 12, vertical=True),
    "ribs_flat": lambda rng: _ribs(rng, 10, vertical=False),
    "planks_wide": lambda rng: _boards(rng, 6, vertical=True),
    "shingles": lambda rng: _tiles(rng, 8, 14, 0.33, 0.02),
    "roof_tiles": lambda rng: _tiles(rng, 12, 12, 0.5, 0.025),
    "windows_tall": lambda rng: _facade(rng, "tall", _brick),
    "windows_wide": lambda rng: _facade(rng, "wide", lambda r: _speckle(r, 30, 0.1, 0.06)),
    "windows_square": lambda rng: _facade(rng, "square", lambda r: _boards(r, 12, vertical=False)),
    "windows_band": lambda rng: _facade(rng, "band", _plain),
    "windows_door": lambda rng: _facade(rng, "door", lambda r: _speckle(r, 30, 0.1, 0.06)),
    "windows_arched": lambda rng: _facade(rng, "arched", lambda r: _tiles(r, 6, 16, 0.0, 0.014)),
    "windows_slits": lambda rng: _facade(rng, "slits", _plain),
    "windows_pair": lambda rng: _facade(rng, "pair", lambda r: _tiles(r, 3, 6, 0.5, 0.012)),
    "shop": _shop,
    "shop_awning": _awning,
    "panes_bus": lambda rng: _panes(rng, 5, 0.45, 0.88),
    "panes_coach": lambda rng: _panes(rng, 3, 0.52, 0.9),
    "panes_tram": lambda rng: _panes(rng, 4, 0.4, 0.8),
    "panes_cab": lambda rng: _panes(rng, 2, 0.12, 0.94),
    "panes_car": lambda rng: _panes(rng, 2, 0.08, 0.9),
    "wheel_five": lambda rng: _wheel(rng, 5),
    "wheel_six": lambda rng: _wheel(rng, 6),
    "wheel_eight": lambda rng: _wheel(rng, 8),
    "face_wide": lambda rng: _face(rng, 0.2),
    "face_round": lambda rng: _face(rng, 0.16),
    "face_narrow": lambda rng: _face(rng, 0.13),
    "stripes": lambda rng: _stripes(rng, 3, 0),
    "stripes_two": lambda rng: _stripes(rng, 2, 0, 0.4),
    "chevrons": lambda rng: _stripes(rng, 2, 2),
    "chevrons_fine": lambda rng: _stripes(rng, 3, -3),
    "check": _check,
    "folds": _folds,
    "creases": lambda rng: _foliage(rng, 5),
    "bands": lambda rng: _stripes(rng, 1, 0, 0.2),
    "leaves_fine": lambda rng: _foliage(rng, 30),
    "leaves_coarse": lambda rng: _foliage(rng, 16),
    "needles": lambda rng: _blades(rng, 2.0),
    "bark": _bark,
    "emblem": _emblem,
    "print": _print,
}
