"""Who and what is on a street: each function below adds one sort of thing, where there is room for it.

The ego vehicle's lane is taken from the start, so it stays free.
"""

import numpy as np

from hvd.world.assets.buildings import BUILDINGS
from hvd.world.assets.cars import CARS
from hvd.world.assets.cycles import BICYCLES, BICYCLISTS, MOTORCYCLES, MOTORCYCLISTS, bike_rack
from hvd.world.assets.furniture import BARRIERS, CONES, FURNITURE, POLES, fence
from hvd.world.assets.parts import Families, draw
from hvd.world.assets.people import PEOPLE
from hvd.world.assets.plant import PLANT
from hvd.world.assets.plants import BUSHES, TREES, hedge
from hvd.world.assets.trucks import BUSES, TRAILERS, TRUCKS
from hvd.world.materials import Split
from hvd.world.mesh import Mesh, placed
from hvd.world.site import CLOSE_M, Site
from hvd.world.street import REACH_M, Street

Rng = np.random.Generator
_DRIVING = (CARS, CARS, CARS, TRUCKS, BUSES, MOTORCYCLISTS, BICYCLISTS)


def populate(
    street: Street, split: Split, ego_lane: float, rng: Rng, duration_s: float = 1.0, *, busy: bool = False
) -> Site:
    """A site with everything placed; `busy`: with more cars, people and cyclists where a camera that looks ahead is."""
    site = Site(street, split, rng, ego_lane, duration_s)
    lane = next(strip for _, strip in street.find("lane") if strip.near < abs(ego_lane) < strip.far)
    site.reserve(-REACH_M, REACH_M, ego_lane - lane.width / 2 + 0.1, ego_lane + lane.width / 2 - 0.1)
    for turn in street.side_streets:
        site.reserve(turn.start, turn.end, *sorted((turn.side * street.road_edge(turn.side), turn.side * 60.0)))
    fills = [_buildings, _large, _works, _traffic, _cycles, _parked, _people, _furniture, _greens]
    if busy:
        fills.insert(fills.index(_works), _ahead)
    for fill in fills:
        fill(site)
    return site


def _ahead(site: Site) -> None:
    """Cars, people and cyclists before the ego vehicle, where a camera that looks ahead sees them large enough."""
    for families, attempts, far, uses, fastest in (
        (CARS, 12, 26.0, "park lane lane lot garden plaza", 6.0),
        (BICYCLISTS, 2, 20.0, "lane park walk island", 5.0),
        (PEOPLE, 3, 20.0, "walk walk park verge island plaza", 1.8),
    ):
        for _ in range(attempts):
            spot = _overlooked(site, far, uses)
            if spot is not None and site.open(*spot[:2]):
                mesh = draw(families, site.rng, site.split)
                s, d, heading = spot
                speed = float(site.rng.uniform(0.5, fastest)) if site.rng.random() < 0.5 else 0.0
                yaw = heading + float(site.rng.normal(0, 0.05))
                if families is CARS:
                    d = _snapped(site, mesh, d)
                elif families is PEOPLE:
                    yaw = float(site.rng.uniform(0, 2 * np.pi))
                site.add(mesh, s, d, yaw, speed, tilt=families is not PEOPLE)


def _overlooked(site: Site, far: float, uses: str) -> tuple[float, float, float] | None:
    """A spot at most `far` metres ahead and within 36 degrees of the way there; None if a few draws miss."""
    for _ in range(8):
        spot = site.spot(*uses.split())
        s = float(site.rng.uniform(6, far))
        if spot is not None and abs(spot[1] - site.ego_lane) < 0.73 * s:
            return s, spot[1], spot[2]
    return None


def _large(site: Site) -> None:
    """Buses, trucks, trailers and construction vehicles, in a lot, on open ground or at a kerb."""
    for families, most in ((PLANT, 2), (TRAILERS, 2), (TRUCKS, 2), (BUSES, 1)):
        for _ in range(int(site.rng.integers(1, most + 1))):
            _try_parking(site, families, "park", "lot", "plaza", "garden", "verge", "field")


def _try_parking(site: Site, families: Families, *uses: str, attempts: int = 12) -> bool:
    mesh = draw(families, site.rng, site.split)
    for _ in range(attempts):
        spot = site.spot(*uses)
        if spot is None:
            return False
        s, d, heading = spot
        yaw = heading + site.rng.normal(0, 0.05) + np.pi * (site.rng.random() < 0.15)
        if site.add(mesh, s, _snapped(site, mesh, d), float(yaw)):
            return True
    return False


def _snapped(site: Site, mesh: Mesh, d: float) -> float:
    """d moved so that the vehicle stands within its strip, if it is wide enough."""
    strip = next(strip for strip in site.street.strips[1 if d > 0 else -1] if strip.near <= abs(d) < strip.far)
    half = float(mesh.corner[..., 1].max()) + 0.1
    low, high = strip.near + half, strip.far - half
    return float(np.sign(d) * (strip.middle if low > high else np.clip(abs(d), low, high)))


def _traffic(site: Site) -> None:
    """Vehicles that drive in the other lanes; large ones keep away, or they would hide half of the street."""
    lanes = [(side, strip) for side, strip in site.street.find("lane") if abs(side * strip.middle - site.ego_lane) > 1]
    for _ in range(int(site.rng.integers(4, 9))):
        side, strip = lanes[site.rng.integers(len(lanes))]
        s, d = site.station(45), side * strip.middle + float(site.rng.normal(0, 0.15))
        families = _DRIVING[site.rng.integers(len(_DRIVING))]
        if families in (TRUCKS, BUSES):
            s += float(np.copysign(14, s))
        if site.open(s, d):
            mesh = draw(families, site.rng, site.split)
            site.add(mesh, s, d, site.heading(side), float(site.rng.uniform(2, 9)))


def _parked(site: Site) -> None:
    """Parked cars."""
    for _ in range(int(site.rng.integers(5, 12))):
        _try_parking(site, CARS, "park", "park", "lot", "garden", "lane", attempts=4)


def _works(site: Site) -> None:
    """Rows of cones and of barriers beside the ego lane, along a strip or slanting over it."""
    for families, most, step in (
        (CONES, 9, (1.2, 2.5)),
        (BARRIERS, 7, (2.2, 2.8)),
        (CONES, 5, (0.8, 1.6)),
        (BARRIERS, 4, (2.2, 2.8)),
    ):
        for _ in range(6):
            if _row(site, families, int(site.rng.integers(3, most + 1)), float(site.rng.uniform(*step))):
                break


def _row(site: Site, families: Families, count: int, spacing: float) -> bool:
    """A row of the same things, of two or three makes; False if there is room for less than two."""
    spot = site.spot("park", "lane", "walk", "verge", "island", "plaza", "lot", reach=CLOSE_M)
    if spot is None:
        return False
    s, d, _ = spot
    slant, placed_count = float(site.rng.normal(0, 0.08)), 0
    mesh = draw(families, site.rng, site.split)
    for i in range(count):
        if i % 3 == 2:
            mesh = draw(families, site.rng, site.split)
        yaw = slant + (np.pi / 2 if families is BARRIERS else float(site.rng.uniform(0, 6.3)))
        placed_count += site.add(mesh, s + i * spacing, d + slant * i + float(site.rng.normal(0, 0.05)), yaw)
    return placed_count > 1


def _cycles(site: Site) -> None:
    """Bicycles at racks, parked motorcycles, and riders at the edge of the road or on the pavement."""
    rows = ((BICYCLES, "walk plaza verge garden island", 0.7), (MOTORCYCLES, "park walk lot lane island", 1.1))
    for families, uses, gap in rows:
        spot = site.spot(*uses.split(), reach=CLOSE_M)
        if spot is None:
            continue
        s, d, heading = spot
        count, yaw = int(site.rng.integers(2, 6)), float(site.rng.choice([np.pi / 2, 0.3, 0.0])) + heading
        if families is BICYCLES and site.rng.random() < 0.5:
            rack = bike_rack(site.rng, site.split, count)
            site.scenery.append(placed(rack, site.street.pose(s, d, yaw, tilt=True)))
        for i in range(count):
            across = gap * (i + 0.4)
            at = s - across * np.sin(yaw), d + across * np.cos(yaw)
            if site.open(*at):
                site.add(draw(families, site.rng, site.split), *at, yaw + float(site.rng.normal(0, 0.1)))
    for families in (BICYCLISTS, BICYCLISTS, MOTORCYCLISTS, MOTORCYCLISTS):
        _ride(site, families)


def _ride(site: Site, families: Families) -> None:
    mesh, speed = draw(families, site.rng, site.split), float(site.rng.uniform(2, 6))
    for _ in range(10):
        uses = ("lane", "park", "walk", "island") if families is BICYCLISTS else ("lane", "park")
        spot = site.spot(*uses, reach=CLOSE_M)
        if spot is not None and site.add(mesh, *spot, speed):
            return


def _people(site: Site) -> None:
    """People alone and in groups, standing or walking any way."""
    for _ in range(int(site.rng.integers(7, 13))):
        spot = site.spot("walk", "walk", "plaza", "verge", "island", "park", "garden", "lot", reach=CLOSE_M)
        if spot is None:
            continue
        s, d, _ = spot
        yaw = float(site.rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2]) + site.rng.normal(0, 0.2))
        speed = float(site.rng.uniform(0.6, 1.8)) if site.rng.random() < 0.5 else 0.0
        for i in range(int(site.rng.integers(1, 4))):
            at = s + 0.7 * i, d + 0.5 * (i % 2)
            if site.open(*at):
                site.add(draw(PEOPLE, site.rng, site.split), *at, yaw, speed, tilt=False)


def _furniture(site: Site) -> None:
    """Poles, signs, bins, benches and shelters along pavements and verges."""
    for side in (1, -1):
        edge = site.street.road_edge(side)
        for s in np.arange(-50, 60, 14) + site.rng.uniform(-6, 6, 8):
            d = side * (edge + float(site.rng.uniform(0.4, 3.0)))
            if site.open(float(s), d):
                site.stand(draw(POLES, site.rng, site.split), float(s), d, -side * np.pi / 2)
    for _ in range(6):
        spot = site.spot("walk", "verge", "plaza", "garden")
        if spot is not None and site.open(spot[0], spot[1]):
            site.stand(draw(FURNITURE, site.rng, site.split), spot[0], spot[1], -np.sign(spot[1]) * np.pi / 2)


def _greens(site: Site) -> None:
    """Hedges and fences along gardens, trees in rows and at random, bushes."""
    for side in (1, -1):
        for use in ("garden", "lot", "plaza"):
            for strip_side, strip in site.street.find(use):
                if strip_side == side:
                    _hedges(site, side * (strip.near + 0.4))
    for side, strip in (pair for use in ("verge", "walk", "garden") for pair in site.street.find(use)):
        if site.rng.random() < 0.6:
            _avenue(site, side * float(site.rng.uniform(strip.near + 0.4, strip.far - 0.4)))
    for _ in range(36):
        spot = site.spot("verge", "garden", "garden", "field", "field", "island", "plaza")
        if spot is not None and site.open(spot[0] * 1.3, spot[1]):
            families = TREES if site.rng.random() < 0.4 else BUSHES
            site.stand(draw(families, site.rng, site.split), spot[0] * 1.3, spot[1])


def _avenue(site: Site, d: float) -> None:
    """A row of trees or bushes at equal distances."""
    step, families = float(site.rng.uniform(6, 12)), TREES if site.rng.random() < 0.7 else BUSHES
    for s in np.arange(-44 + float(site.rng.uniform(0, step)), 46, step):
        if site.open(float(s), d):
            site.stand(draw(families, site.rng, site.split), float(s), d)


def _hedges(site: Site, d: float) -> None:
    s = -45.0
    while s < 45:
        length = float(site.rng.uniform(4, 9))
        kind = site.rng.random()
        if kind < 0.6 and site.open(s + length / 2, d):
            shape = (hedge if kind < 0.3 else fence)(site.rng, site.split, length)
            site.stand(shape, s + length / 2, d, tilt=True)
        s += length + float(site.rng.uniform(0.5, 4))


def _buildings(site: Site) -> None:
    """Rows of houses where the fields begin, with gaps."""
    for side in (1, -1):
        front = site.street.strips[side][-1].near
        s, density = -REACH_M + 6, site.rng.uniform(0.4, 1.0)
        while s < REACH_M - 6:
            house = draw(BUILDINGS, site.rng, site.split)
            length = float(np.ptp(house.corner[..., 0]))
            if site.rng.random() < density:
                setback = float(site.rng.uniform(0.3, 3.5))
                site.stand(house, s + length / 2, side * (front + setback), 0.0 if side > 0 else np.pi)
            s += length + float(site.rng.uniform(0.0, 3.0))
