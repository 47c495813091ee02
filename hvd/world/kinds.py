"""What a surface is, with its raw label in both data sets (nuScenes general classes, SemanticKITTI ids)."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.labels import NUSCENES_CATEGORIES


class Kind(IntEnum):
    """Semantic kind of a triangle."""

    ROAD = 0
    PARKING = 1
    OTHER_FLAT = 2
    SIDEWALK = 3
    TERRAIN = 4
    BUILDING = 5
    FENCE = 6
    POLE = 7
    SIGN = 8
    FURNITURE = 9
    TRUNK = 10
    VEGETATION = 11
    BARRIER = 12
    CONE = 13
    CAR = 14
    BUS = 15
    TRUCK = 16
    TRAILER = 17
    CONSTRUCTION = 18
    BICYCLE = 19
    MOTORCYCLE = 20
    BICYCLIST = 21
    MOTORCYCLIST = 22
    PEDESTRIAN = 23


@dataclass(frozen=True)
class RawLabel:
    """Raw labels of one kind; `moving` is the SemanticKITTI id of a moving instance."""

    nuscenes: str
    kitti: int
    moving: int


RAW_LABELS: dict[Kind, RawLabel] = {
    Kind.ROAD: RawLabel("flat.driveable_surface", 40, 40),
    Kind.PARKING: RawLabel("flat.driveable_surface", 44, 44),
    Kind.OTHER_FLAT: RawLabel("flat.other", 49, 49),
    Kind.SIDEWALK: RawLabel("flat.sidewalk", 48, 48),
    Kind.TERRAIN: RawLabel("flat.terrain", 72, 72),
    Kind.BUILDING: RawLabel("static.manmade", 50, 50),
    Kind.FENCE: RawLabel("static.manmade", 51, 51),
    Kind.POLE: RawLabel("static.manmade", 80, 80),
    Kind.SIGN: RawLabel("static.manmade", 81, 81),
    Kind.FURNITURE: RawLabel("static.manmade", 52, 52),
    Kind.TRUNK: RawLabel("static.vegetation", 71, 71),
    Kind.VEGETATION: RawLabel("static.vegetation", 70, 70),
    Kind.BARRIER: RawLabel("movable_object.barrier", 51, 51),
    Kind.CONE: RawLabel("movable_object.trafficcone", 99, 99),
    Kind.CAR: RawLabel("vehicle.car", 10, 252),
    Kind.BUS: RawLabel("vehicle.bus.rigid", 13, 257),
    Kind.TRUCK: RawLabel("vehicle.truck", 18, 258),
    Kind.TRAILER: RawLabel("vehicle.trailer", 20, 259),
    Kind.CONSTRUCTION: RawLabel("vehicle.construction", 20, 259),
    Kind.BICYCLE: RawLabel("vehicle.bicycle", 11, 11),
    Kind.MOTORCYCLE: RawLabel("vehicle.motorcycle", 15, 15),
    Kind.BICYCLIST: RawLabel("vehicle.bicycle", 31, 253),
    Kind.MOTORCYCLIST: RawLabel("vehicle.motorcycle", 32, 255),
    Kind.PEDESTRIAN: RawLabel("human.pedestrian.adult", 30, 254),
}


def nuscenes_ids() -> NDArray[np.uint8]:
    """(num_kinds,) lidarseg index of each kind."""
    names = [name for name, _ in NUSCENES_CATEGORIES]
    return np.array([names.index(RAW_LABELS[kind].nuscenes) for kind in Kind], dtype=np.uint8)


def kitti_ids(moving: bool) -> NDArray[np.uint32]:
    """(num_kinds,) SemanticKITTI id of each kind, standing or moving."""
    rows = [RAW_LABELS[kind] for kind in Kind]
    return np.array([row.moving if moving else row.kitti for row in rows], dtype=np.uint32)
