"""Textures and light, against values worked out by hand."""

import numpy as np
import pytest

from hvd.world.materials import Surface
from hvd.world.mesh import Mesh, quads
from hvd.world.painters import SIZE, TEXTURES
from hvd.world.raycast import Hits, Stage, body
from hvd.world.shading import Light, sample, shade
from hvd.world.textures import build_atlas, texture_layer

DOWN = np.array([[0, 0, -1]], dtype=np.float32)


def _light(sun: tuple[float, float, float]) -> Light:
    black = np.zeros(3, dtype=np.float32)
    return Light(
        sun=np.array(sun, dtype=np.float32),
        sun_colour=np.full(3, 2.0, dtype=np.float32),
        sky_colour=np.full(3, 0.4, dtype=np.float32),
        ground_colour=np.full(3, 0.2, dtype=np.float32),
        zenith=black,
        horizon=black,
        haze_m=1e9,
        exposure=np.ones(3, dtype=np.float32),
        noise=0.0,
    )


def _floor(height: float, half: float, texture: str = "plain") -> tuple[int, Mesh]:
    look = np.array([0, texture_layer(texture), *[0.5] * 3, *[0.1] * 3, 0.3, 0.3, 0, 0], dtype=np.float32)
    surface = Surface((1.0, 1.0), (np.full(3, 0.5), np.full(3, 0.1)), look)
    corner = [[[-half, -half, height], [half, -half, height], [half, half, height], [-half, half, height]]]
    return 0, quads(np.array(corner), surface)


def _look_down(stage: Stage, x: float = 0.3) -> Hits:
    return stage.cast(np.array([[x, 0.2, 5]], dtype=np.float32), DOWN)


def test_lambert_under_sun_and_sky() -> None:
    stage = Stage(body([_floor(0, 10)]), None)
    hits = _look_down(stage)
    surface = sample(stage.attributes, build_atlas(0), hits, DOWN, 0.001)
    for tilt in np.radians([0.0, 30.0, 60.0]):
        light = _light((0, np.sin(tilt), np.cos(tilt)))
        colour = shade(light, surface, np.array([True]), DOWN, hits.distance)
        assert np.allclose(colour, surface.colour * (0.4 + 2.0 * np.cos(tilt)), rtol=1e-5)
    dark = shade(_light((0, 0, 1)), surface, np.array([False]), DOWN, hits.distance)
    assert np.allclose(dark, surface.colour * 0.4, rtol=1e-5)


def test_shadows_of_standing_and_of_moving_things() -> None:
    ground, roof = _floor(0, 10), _floor(2, 1)
    up = -DOWN
    for stage in (Stage(body([ground, roof]), None), Stage(body([ground]), body([roof]))):
        below, beside = (np.array([[x, 0, 0]], dtype=np.float32) for x in (0.5, 3.0))
        assert not stage.lit(below, up, up[0])[0]
        assert stage.lit(beside, up, up[0])[0]


def test_moving_things_hide_what_is_behind_them() -> None:
    stage = Stage(body([_floor(0, 10)]), body([_floor(2, 1)]))
    near, far = _look_down(stage), _look_down(stage, x=4.0)
    assert near.distance[0] == pytest.approx(3)
    assert far.distance[0] == pytest.approx(5)
    assert near.triangle[0] >= 2 > far.triangle[0]


def test_far_textures_fade_to_their_mean() -> None:
    """A check of 50 % each shows its two colours from near, and their mean where a pixel covers many squares."""
    stage, atlas = Stage(body([_floor(0, 10, "check")]), None), build_atlas(0)
    x = np.linspace(-4, 4, 200).astype(np.float32)
    down = np.repeat(DOWN, 200, axis=0)
    hits = stage.cast(np.stack([x, np.full_like(x, 0.11), np.full_like(x, 5)], -1), down)
    assert set(np.unique(sample(stage.attributes, atlas, hits, down, 1e-4).mix)) == {0.0, 1.0}
    assert np.allclose(sample(stage.attributes, atlas, hits, down, 1.0).mix, 0.5, atol=0.01)


def test_every_texture_is_a_pattern_of_two_channels() -> None:
    atlas = build_atlas(7)
    assert len(atlas.texel) == len(TEXTURES) * atlas.stride
    for layer, name in enumerate(TEXTURES):
        assert texture_layer(name) == layer
        top = atlas.texel[layer * atlas.stride :][: SIZE * SIZE].astype(float)
        last = atlas.texel[(layer + 1) * atlas.stride - 1].astype(float)
        assert np.allclose(last, top.mean(0), atol=1.5), name  # the smallest level is the mean
        assert top.std(0).max() > 1, name
        assert 60 < top[:, 1].mean() < 200, name
    assert not np.array_equal(build_atlas(8).texel, atlas.texel)
