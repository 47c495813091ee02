"""The atlas: every texture with its mip levels in one table."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hvd.world.painters import SIZE, TEXTURES

_LEVELS = SIZE.bit_length()  # mip levels, down to one texel


@dataclass(frozen=True)
class Atlas:
    """All textures with their mip levels in one flat table, for gathering."""

    texel: NDArray[np.uint8]  # (layers * stride, 2): mix as 255ths, shade as 128ths
    stride: int  # texels of one layer, all levels
    level_start: NDArray[np.int32]  # (levels,) offset of each mip level inside a layer
    level_size: NDArray[np.int32]  # (levels,) texels along one side


def texture_layer(name: str) -> int:
    """Layer of a texture in the atlas."""
    return _LAYER[name]


_LAYER = {name: layer for layer, name in enumerate(TEXTURES)}


def _mips(image: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    levels = [image]
    while len(levels[-1]) > 1:
        half = levels[-1].reshape(len(levels[-1]) // 2, 2, -1, 2, 2).mean((1, 3))
        levels.append(half)
    return levels


@cache
def build_atlas(seed: int) -> Atlas:
    """Paint every texture once; texture number i draws from (seed, i)."""
    tables = []
    for layer, paint in enumerate(TEXTURES.values()):
        mix, shade = paint(np.random.default_rng([seed, layer]))
        image = np.stack([np.clip(mix, 0, 1) * 255, np.clip(shade, 0, 1.99) * 128], -1)
        tables.append(np.concatenate([level.reshape(-1, 2) for level in _mips(image)]))
    sizes = [SIZE >> level for level in range(_LEVELS)]
    starts = np.concatenate([[0], np.cumsum([size * size for size in sizes])])
    return Atlas(
        texel=np.concatenate(tables).round().astype(np.uint8),
        stride=int(starts[-1]),
        level_start=starts[:-1].astype(np.int32),
        level_size=np.array(sizes, dtype=np.int32),
    )
