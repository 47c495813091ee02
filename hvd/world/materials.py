"""Materials: the textures, colours and echoes that a surface may have. Classes share palettes and reflectivities."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvd.world.palette import Colour, colour
from hvd.world.textures import texture_layer

Split = Literal["train", "val"]
Range = tuple[float, float]


@dataclass(frozen=True)
class Surface:
    """One painted surface, ready for a mesh."""

    tile: tuple[float, float]  # metres of one texture repeat along u and v
    colours: tuple[Colour, Colour]  # where the texture's mix is 0 and 1
    look: NDArray[np.float32]  # (12,) as in a mesh

    @property
    def reflectivity(self) -> float:
        """LiDAR reflectivity of the first colour."""
        return float(self.look[8])


@dataclass(frozen=True)
class Material:
    """A recipe of surfaces. Names are separated by blanks; repeated ones weigh more."""

    train: str  # textures of training; but for the plainest, not those of the same material in validation
    val: str
    base: str  # palette groups
    accent: str  # where the group is "self", a shade of the base colour
    tile: Range  # metres of one texture repeat along u and v
    reflect: Range  # LiDAR reflectivity 0..1 of the base colour
    accent_reflect: Range
    gloss: float = 0.0
    noise_m: float = 0.0  # extra deviation of the range: what is soft or rough


_ROAD = "tarmac tarmac tarmac tarmac grey"
_BODY = "light light grey grey dark dark vivid vivid brick green"  # vehicles
_ANY = "grey light earth brick green dry vivid dark"
_HOUSE = "light light grey earth brick brick vivid"
_WINDOWS = "windows_tall windows_wide windows_square windows_band"
_OTHER_WINDOWS = "windows_arched windows_slits windows_pair windows_door"
_WORKS = "signal signal signal vivid light green"
_LANE = (_ROAD, "light light dry", (3.2, 9.0), (0.05, 0.16), (0.4, 0.9))
_DULL, _HARD, _SOFT, _PAINTED, _BRIGHT = (0.05, 0.16), (0.15, 0.4), (0.3, 0.6), (0.05, 0.7), (0.4, 1.0)
_GLASSY, _DEEP = (0.02, 0.1), (0.02, 0.12)

MATERIALS: dict[str, Material] = {
    # ground
    "asphalt": Material(
        "asphalt_fine asphalt_cracked", "asphalt_coarse asphalt_patched", _ROAD, "self", (4, 4), _DULL, _DULL
    ),
    "lane": Material("lane_dashed", "lane_dashed", *_LANE),
    "lane_edge": Material("lane_edge", "lane_edge", *_LANE),
    "paving": Material(
        "slabs herringbone slabs_square",
        "hexagons slabs_long",
        "grey light light earth brick",
        "self self grey",
        (2, 2),
        (0.22, 0.4),
        _HARD,
    ),
    "island": Material(
        "cobbles hatching",
        "setts chevrons",
        "grey light earth brick dry",
        "self grey dark light",
        (1.5, 1.5),
        (0.14, 0.3),
        _HARD,
    ),
    "ground": Material(
        "grass grass_tufts soil",
        "meadow tussocks gravel",
        "green green green green dry earth",
        "green dry earth",
        (2.5, 2.5),
        _SOFT,
        _SOFT,
        noise_m=0.03,
    ),
    "kerb": Material("plaster", "blocks", "grey light earth", "self", (1, 1), _HARD, _HARD),
    # buildings
    "facade": Material(_WINDOWS, _OTHER_WINDOWS, _HOUSE, "dark grey green", (6, 6), _SOFT, _GLASSY, gloss=0.15),
    "shop": Material("shop", "shop_awning", _ANY, "dark light grey", (5, 3.2), _SOFT, _GLASSY, gloss=0.2),
    "wall": Material(
        "brick plaster siding", "brick_stack stained blocks", _HOUSE, "grey dark earth", (2, 2), _SOFT, _HARD
    ),
    "roof": Material(
        "roof_tiles ribs", "shingles ribs_flat", "brick dark grey earth green", "dark grey", (2, 2), _HARD, _HARD
    ),
    "wood": Material(
        "planks siding", "planks_wide blocks", "earth light dark green dry", "dark earth", (1.5, 1.5), _HARD, _HARD
    ),
    "metal": Material("plain", "plain", "grey dark light green", "grey dark", (1, 1), _PAINTED, _PAINTED, gloss=0.25),
    "sign": Material("emblem", "print", "light vivid", "vivid dark light", (1, 1), _BRIGHT, _BRIGHT),
    # plants
    "leaf": Material(
        "leaves_fine",
        "leaves_coarse",
        "green green green green green dry",
        "green green dry dark",
        (1.2, 1.2),
        _SOFT,
        _SOFT,
        noise_m=0.03,
    ),
    "needle": Material("needles", "needles", "green green dark dry", "dark green", (1, 1), _SOFT, _SOFT, noise_m=0.03),
    "bark": Material("bark", "stained", "earth dark grey light", "dark earth", (1, 1), _HARD, _HARD),
    # vehicles
    "paint": Material("plain", "plain", _BODY, "grey dark", (2, 2), _PAINTED, _PAINTED, gloss=0.3),
    "glass": Material("plain", "plain", "dark dark grey", "dark", (2, 2), _GLASSY, _GLASSY, gloss=0.6),
    "tyre": Material("plain", "plain", "dark", "dark", (1, 1), _DEEP, _DEEP),
    "wheel": Material("wheel_five wheel_six", "wheel_eight", "dark", "grey light", (1, 1), _DEEP, _PAINTED),
    "face": Material("face_wide face_round", "face_narrow", _BODY, "light vivid", (1, 1), _PAINTED, _BRIGHT, gloss=0.2),
    "cabin": Material("panes_car", "panes_cab", _BODY, "dark", (1, 1), _PAINTED, _GLASSY, gloss=0.3),
    "panes": Material(
        "panes_bus panes_tram", "panes_coach", _BODY, "dark dark grey", (6, 2.6), _PAINTED, _GLASSY, gloss=0.3
    ),
    "cargo": Material(
        "ribs print siding",
        "ribs_flat check",
        _BODY,
        "self self vivid light",
        (2.5, 2.5),
        _PAINTED,
        _PAINTED,
        gloss=0.1,
    ),
    "plant": Material("plain", "bands", _WORKS, "dark grey", (2, 2), _PAINTED, _PAINTED, gloss=0.15),
    "track": Material("ribs", "ribs_flat", "dark grey earth", "dark", (1, 1), _DULL, _DULL),
    # road works
    "cone": Material("stripes", "stripes_two", "signal signal vivid brick green", "light", (1, 0.7), _SOFT, _BRIGHT),
    "board": Material(
        "chevrons stripes", "chevrons_fine check", "vivid signal light", "light grey dark", (1, 1), _SOFT, _BRIGHT
    ),
    "concrete": Material("plaster", "stained", "grey light earth", "grey dark", (2, 2), _SOFT, _HARD),
    # people
    "cloth": Material(
        "folds plain", "creases", _ANY, "self self self vivid light", (0.6, 0.6), _PAINTED, _PAINTED, noise_m=0.005
    ),
    "skin": Material("plain", "plain", "skin", "dark", (1, 1), _HARD, _HARD),
    "hair": Material("plain", "plain", "dark earth dry grey", "dark", (1, 1), _DULL, _DULL),
}


def _between(bounds: Range, share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def paint(
    rng: np.random.Generator,
    split: Split,
    name: str,
    *,
    base: Colour | None = None,
    accent: Colour | None = None,
    reflect: float | None = None,
    tile: tuple[float, float] | None = None,
) -> Surface:
    """Draw a surface of a material; colours, reflectivity and size may be fixed to match a neighbour."""
    material = MATERIALS[name]
    family = (material.train if split == "train" else material.val).split()
    pick, scale, bright, accent_bright = rng.random(4).tolist()
    size = 0.85 + 0.35 * scale
    base = colour(rng, material.base) if base is None else base
    colours = base, colour(rng, material.accent, base) if accent is None else accent
    layer = texture_layer(family[int(pick * len(family))])
    reflect = _between(material.reflect, bright) if reflect is None else reflect
    echo = reflect, _between(material.accent_reflect, accent_bright), material.gloss, material.noise_m
    look = np.array([0, layer, *colours[0], *colours[1], *echo], dtype=np.float32)
    return Surface(tile or (material.tile[0] * size, material.tile[1] * size), colours, look)
