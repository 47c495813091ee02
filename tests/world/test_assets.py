"""Families: disjoint between the splits, of the right kind and of plausible size."""

import numpy as np
import pytest

from hvd.world.assets.buildings import BUILDINGS
from hvd.world.assets.cars import CARS
from hvd.world.assets.cycles import BICYCLES, BICYCLISTS, MOTORCYCLES, MOTORCYCLISTS
from hvd.world.assets.furniture import BARRIERS, CONES
from hvd.world.assets.parts import Families
from hvd.world.assets.people import PEOPLE
from hvd.world.assets.plant import PLANT
from hvd.world.assets.plants import BUSHES, TREES
from hvd.world.assets.trucks import BUSES, TRAILERS, TRUCKS
from hvd.world.kinds import Kind
from hvd.world.layouts import LAYOUTS
from hvd.world.materials import MATERIALS, Split

# families, kinds of their triangles, (least, greatest) length and height in metres
CATALOGUE: dict[str, tuple[Families, set[Kind], tuple[float, float], tuple[float, float]]] = {
    "cars": (CARS, {Kind.CAR}, (2.5, 5.5), (1.2, 2.2)),
    "buses": (BUSES, {Kind.BUS}, (6, 13), (2.5, 4.8)),
    "trucks": (TRUCKS, {Kind.TRUCK}, (5, 10), (1.8, 4.0)),
    "trailers": (TRAILERS, {Kind.TRAILER}, (3, 14), (1.2, 4.0)),
    "plant": (PLANT, {Kind.CONSTRUCTION}, (3, 10.5), (2, 4.8)),
    "bicycles": (BICYCLES, {Kind.BICYCLE}, (1.2, 2.4), (0.8, 1.3)),
    "bicyclists": (BICYCLISTS, {Kind.BICYCLIST}, (1.2, 2.4), (1.5, 2.1)),
    "motorcycles": (MOTORCYCLES, {Kind.MOTORCYCLE}, (1.4, 2.4), (0.9, 1.5)),
    "motorcyclists": (MOTORCYCLISTS, {Kind.MOTORCYCLIST}, (1.4, 2.4), (1.4, 2.0)),
    "people": (PEOPLE, {Kind.PEDESTRIAN}, (0.2, 1.6), (1.0, 2.3)),
    "barriers": (BARRIERS, {Kind.BARRIER}, (0.2, 1.0), (0.7, 1.3)),
    "cones": (CONES, {Kind.CONE}, (0.2, 0.8), (0.5, 1.2)),
    "buildings": (BUILDINGS, {Kind.BUILDING}, (6, 26), (6, 40)),
    "trees": (TREES, {Kind.TRUNK, Kind.VEGETATION}, (1.2, 9), (3, 14)),
    "bushes": (BUSHES, {Kind.VEGETATION}, (0.8, 4.5), (0.6, 3)),
}
SPLITS: tuple[Split, ...] = ("train", "val")


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_splits_share_no_family(name: str) -> None:
    families = CATALOGUE[name][0]
    assert families["train"].keys().isdisjoint(families["val"].keys())
    train = set(families["train"].values())
    assert train.isdisjoint(families["val"].values())


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("split", SPLITS)
def test_models_are_sound(name: str, split: Split) -> None:
    families, kinds, lengths, heights = CATALOGUE[name]
    for build in families[split].values():
        for seed in range(4):
            mesh = build(np.random.default_rng(seed), split)
            assert {Kind(k) for k in np.unique(mesh.kind)} == kinds
            assert np.isfinite(mesh.corner).all()
            assert np.isfinite(mesh.uv).all()
            low, high = mesh.corner.min((0, 1)), mesh.corner.max((0, 1))
            assert lengths[0] <= high[0] - low[0] <= lengths[1]
            assert heights[0] <= high[2] <= heights[1]


def test_models_vary_within_a_family() -> None:
    one, two = (CARS["train"]["sedan"](np.random.default_rng(seed), "train") for seed in (0, 1))
    assert not np.allclose(one.corner, two.corner)
    assert not np.allclose(one.look[0, 2:5], two.look[0, 2:5])


def test_the_splits_share_no_layout_and_no_patterned_texture() -> None:
    assert LAYOUTS["train"].keys().isdisjoint(LAYOUTS["val"].keys())
    assert not set(LAYOUTS["train"].values()) & set(LAYOUTS["val"].values())
    common = {"plain", "lane_dashed", "lane_edge", "needles"}
    for name, material in MATERIALS.items():
        assert set(material.train.split()) & set(material.val.split()) <= common, name
