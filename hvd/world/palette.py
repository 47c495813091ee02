"""Colours, in groups that several classes share on purpose: no colour names a class."""

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float64]  # (3,) linear RGB 0..1

# sRGB
PALETTE: dict[str, tuple[tuple[int, int, int], ...]] = {
    "tarmac": ((50, 52, 54), (64, 66, 68), (80, 82, 84), (98, 98, 98), (88, 82, 76)),
    "grey": ((58, 60, 62), (80, 82, 84), (104, 104, 102), (128, 126, 122), (150, 148, 144), (176, 174, 170)),
    "light": ((225, 222, 214), (208, 200, 184), (236, 236, 236), (214, 190, 150), (190, 205, 210)),
    "earth": ((110, 84, 60), (140, 112, 80), (94, 74, 58), (168, 142, 104), (122, 100, 84)),
    "brick": ((150, 70, 52), (120, 58, 46), (170, 98, 72), (98, 52, 46)),
    "green": ((52, 78, 38), (74, 100, 46), (98, 116, 60), (44, 66, 48), (120, 132, 78)),
    "dry": ((168, 150, 80), (150, 124, 58), (186, 120, 50), (146, 80, 40)),
    "vivid": ((190, 40, 36), (226, 120, 30), (226, 186, 40), (40, 90, 160), (30, 120, 90), (110, 50, 100)),
    "signal": ((226, 120, 30), (230, 186, 40), (236, 150, 36), (214, 96, 30)),
    "dark": ((26, 28, 32), (42, 38, 36), (30, 40, 52), (48, 32, 32)),
    "skin": ((224, 178, 148), (196, 144, 110), (140, 96, 70), (92, 62, 46)),
}

_BLACK: Colour = np.zeros(3)
_LINEAR = {name: (np.array(group) / 255) ** 2.2 for name, group in PALETTE.items()}


def colour(rng: np.random.Generator, groups: str, base: Colour = _BLACK) -> Colour:
    """A colour of one of the palette groups (named in a string, repeated names weigh more), a little varied.

    The group "self" gives a darker or lighter shade of `base`.
    """
    names = groups.split()
    draw = rng.random(6)
    name = names[int(draw[0] * len(names))]
    if name == "self":
        return np.asarray(base * (0.45 + 1.1 * draw[1]))
    group = _LINEAR[name]
    gain = (0.67 + 0.76 * draw[1]) * (0.88 + 0.26 * draw[2:5])  # of linear light
    return np.asarray(group[int(draw[5] * len(group))] * gain)
