"""Class maps of the two benchmarks, written once: raw ids on disk -> training ids -> ids of a submission.

nuScenes-lidarseg: 32 categories -> the 16 classes of the challenge (devkit, `LidarsegClassMapper`). SemanticKITTI: raw
ids -> 19 classes with moving ones folded (semantic-kitti-api, config/semantic-kitti.yaml).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvd.errors import InputError

IGNORED = 255
"""The training id of points that are neither trained on nor scored."""

_UNDEFINED = 254


@dataclass(frozen=True)
class LabelMap:
    """Raw ids <-> training ids 0 .. C - 1."""

    names: tuple[str, ...]  # (C,) in order of training id
    lut: NDArray[np.uint8]  # raw id -> training id, or IGNORED, or 254 where the benchmark defines no such id
    inverse: NDArray[np.uint32]  # (C,) training id -> id in a submission

    def map(self, raw: NDArray[Any]) -> NDArray[np.uint8]:
        """Training ids (N,) of raw ids (N,), which are unsigned.

        Raises:
            InputError: naming the first raw id that the benchmark doesn't define.
        """
        mapped = self.lut.take(raw, mode="clip")
        unknown = (mapped == _UNDEFINED) | (raw >= len(self.lut))
        if unknown.any():
            raise InputError(f"unknown class id {int(raw[unknown][0])} in the labels")
        return mapped


NUSCENES_CATEGORIES = (
    ("noise", None),
    ("animal", None),
    ("human.pedestrian.adult", "pedestrian"),
    ("human.pedestrian.child", "pedestrian"),
    ("human.pedestrian.construction_worker", "pedestrian"),
    ("human.pedestrian.personal_mobility", None),
    ("human.pedestrian.police_officer", "pedestrian"),
    ("human.pedestrian.stroller", None),
    ("human.pedestrian.wheelchair", None),
    ("movable_object.barrier", "barrier"),
    ("movable_object.debris", None),
    ("movable_object.pushable_pullable", None),
    ("movable_object.trafficcone", "traffic_cone"),
    ("static_object.bicycle_rack", None),
    ("vehicle.bicycle", "bicycle"),
    ("vehicle.bus.bendy", "bus"),
    ("vehicle.bus.rigid", "bus"),
    ("vehicle.car", "car"),
    ("vehicle.construction", "construction_vehicle"),
    ("vehicle.emergency.ambulance", None),
    ("vehicle.emergency.police", None),
    ("vehicle.motorcycle", "motorcycle"),
    ("vehicle.trailer", "trailer"),
    ("vehicle.truck", "truck"),
    ("flat.driveable_surface", "driveable_surface"),
    ("flat.other", "other_flat"),
    ("flat.sidewalk", "sidewalk"),
    ("flat.terrain", "terrain"),
    ("static.manmade", "manmade"),
    ("static.other", None),
    ("static.vegetation", "vegetation"),
    ("vehicle.ego", None),
)
"""The raw id of a nuScenes-lidarseg category is its place here; beside it, its class in the challenge."""

_NUSCENES_NAMES = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
)

_SEMANTICKITTI_CLASSES = (  # name, raw ids; the first is the one that submissions use
    ("car", (10, 252)),
    ("bicycle", (11,)),
    ("motorcycle", (15,)),
    ("truck", (18, 258)),
    ("other-vehicle", (20, 13, 16, 256, 257, 259)),
    ("person", (30, 254)),
    ("bicyclist", (31, 253)),
    ("motorcyclist", (32, 255)),
    ("road", (40, 60)),
    ("parking", (44,)),
    ("sidewalk", (48,)),
    ("other-ground", (49,)),
    ("building", (50,)),
    ("fence", (51,)),
    ("vegetation", (70,)),
    ("trunk", (71,)),
    ("terrain", (72,)),
    ("pole", (80,)),
    ("traffic-sign", (81,)),
)
_SEMANTICKITTI_IGNORED = (0, 1, 52, 99)  # unlabeled, outlier, other-structure, other-object


def _lut(train_id: dict[int, int]) -> NDArray[np.uint8]:
    table = np.full(max(train_id) + 1, _UNDEFINED, dtype=np.uint8)
    table[list(train_id)] = list(train_id.values())
    return table


def _nuscenes() -> LabelMap:
    number = {name: train_id for train_id, name in enumerate(_NUSCENES_NAMES)}
    train_id = {raw: number.get(name or "", IGNORED) for raw, (_, name) in enumerate(NUSCENES_CATEGORIES)}
    return LabelMap(_NUSCENES_NAMES, _lut(train_id), np.arange(1, len(_NUSCENES_NAMES) + 1, dtype=np.uint32))


def _semantickitti() -> LabelMap:
    train_id = {raw: number for number, (_, raws) in enumerate(_SEMANTICKITTI_CLASSES) for raw in raws}
    train_id |= dict.fromkeys(_SEMANTICKITTI_IGNORED, IGNORED)
    names = tuple(name for name, _ in _SEMANTICKITTI_CLASSES)
    return LabelMap(names, _lut(train_id), np.array([raws[0] for _, raws in _SEMANTICKITTI_CLASSES], dtype=np.uint32))


NUSCENES = _nuscenes()
SEMANTICKITTI = _semantickitti()
LABEL_MAPS = {"nuscenes": NUSCENES, "semkitti": SEMANTICKITTI}
