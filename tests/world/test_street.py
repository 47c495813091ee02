"""Streets: the mesh of the ground lies where poses stand, strip by strip, for every layout."""

import numpy as np
import pytest

from hvd.world.ground import ground
from hvd.world.kinds import Kind
from hvd.world.layouts import draw_street
from hvd.world.populate import populate
from hvd.world.raycast import body
from hvd.world.street import SIDE_M

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_poses_stand_on_the_ground_of_their_strip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    street = draw_street("train" if seed % 2 else "val", rng)
    earth = body([(0, ground(street, rng))])
    checked = 0
    for side in (1, -1):
        for strip in street.strips[side]:
            for s in rng.uniform(-40, 40, 12):
                d = side * min(strip.middle, 25.0)
                place = street.pose(float(s), d, tilt=False)[:3, 3]
                eye = (place + np.array([0, 0, 9]))[None].astype(np.float32)
                hit = earth.cast(eye, np.array([[0, 0, -1]], dtype=np.float32))
                kind = Kind(int(earth.attributes.kind[hit.triangle[0]]))
                here = street.strip_at(float(s), d)
                assert kind is (Kind.ROAD if here is None else here.kind)
                roughness = 0.5 if strip.use in ("field", "garden", "verge") else 0.12
                assert hit.distance[0] == pytest.approx(9, abs=roughness)
                checked += 1
    assert checked > 60


def test_kerbs_leave_no_gap() -> None:
    """Looking down anywhere on the street meets ground, and kerbs close the steps between strips."""
    rng = np.random.default_rng(0)
    street = draw_street("train", rng)
    earth = body([(0, ground(street, rng))])
    x, y, _ = street.plan(rng.uniform(-40, 40, 4000), rng.uniform(-20, 20, 4000))
    start = np.stack([x, y, np.full(4000, 9.0)], -1).astype(np.float32)
    slanted = np.array([0.6, 0.64, -0.48], dtype=np.float32)
    for direction in (np.array([0, 0, -1], dtype=np.float32), slanted):
        hits = earth.cast(start, np.broadcast_to(direction, start.shape).copy())
        assert (hits.triangle >= 0).all()
    strips = [strip for side in (1, -1) for strip in street.strips[side]]
    assert all(strip.far > strip.near for strip in strips)
    assert max(strip.far for strip in strips) == SIDE_M


def test_vehicles_follow_the_slope_and_people_stand_upright() -> None:
    street = draw_street("train", np.random.default_rng(4))
    tilted, upright = (street.pose(5.0, 1.0, 0.3, tilt=tilt)[:3, :3] for tilt in (True, False))
    assert upright[2, 2] == 1
    ahead = street.pose(5.0 + np.cos(0.3), 1.0 + np.sin(0.3))[:3, 3] - street.pose(5.0, 1.0)[:3, 3]
    assert tilted[2, 0] == pytest.approx(ahead[2] / np.linalg.norm(ahead), abs=0.01)
    assert np.allclose(tilted @ tilted.T, np.eye(3))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_stands_in_the_ego_lane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    street = draw_street("val" if seed % 2 else "train", rng)
    lane = next(strip for strip in street.strips[-1] if strip.use == "lane")
    site = populate(street, "train", -lane.middle, rng, duration_s=0.5)
    assert len(site.things) > 15
    for thing in site.things:
        for time_s in (-0.05, 0.0, 0.25, 0.5):
            corner = thing.mesh_at(street, time_s).corner.reshape(-1, 3)
            for s in np.arange(-8, 16, 1.0):  # where the ego vehicle passes
                centre = street.pose(float(s), -lane.middle)[:3, 3]
                distance = np.linalg.norm((corner - centre)[:, :2], axis=1)
                assert distance.min() > 0.9  # half of a car's width


def test_layouts_have_all_sorts_of_ground() -> None:
    for split in ("train", "val"):
        kinds: dict[Kind, int] = {}
        for seed in range(20):
            street = draw_street(split, np.random.default_rng(seed))
            for kind in {strip.kind for side in (1, -1) for strip in street.strips[side]}:
                kinds[kind] = kinds.get(kind, 0) + 1
        for kind in (Kind.ROAD, Kind.SIDEWALK, Kind.TERRAIN, Kind.OTHER_FLAT):
            assert kinds[kind] >= 12
