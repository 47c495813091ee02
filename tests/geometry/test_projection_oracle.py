"""Our projection of the recorded frame against the devkit's own `map_pointcloud_to_image`, camera by camera."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import nuscenes.nuscenes as devkit_module  # noqa: TID251
import pytest
from nuscenes import NuScenes  # noqa: TID251

from hvd.datasets.nuscenes import CAMERAS
from hvd.geometry.camera import pair_points, project
from hvd.geometry.se3 import from_quaternion, inverse
from tests.geometry.rig import Rig, recorded

TOLERANCE_PX = 0.05
TOLERANCE_M = 1e-3


@pytest.fixture(scope="module")
def devkit(real_data: Callable[[str], Path]) -> NuScenes:
    return NuScenes("v1.0-mini", str(real_data("nuscenes")), verbose=False)


@pytest.fixture(scope="module")
def rig(real_data: Callable[[str], Path]) -> Rig:
    return recorded(real_data("nuscenes"))


def devkit_pairs(devkit: NuScenes, name: str, patch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices (M,), pixels (M, 2) and depths (M,) of the points that the devkit finds in a camera's image.

    It returns no indices: they are found again by the bits of its projection of all points, listened to on the way.
    """
    heard: list[np.ndarray] = []
    view_points = devkit_module.view_points

    def listen(*args: Any, **kwargs: Any) -> np.ndarray:
        heard.append(view_points(*args, **kwargs))
        return heard[-1]

    patch.setattr(devkit_module, "view_points", listen)
    data = devkit.sample[0]["data"]
    uv, depth, _ = devkit.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[name])
    kept = {column.tobytes() for column in np.ascontiguousarray(uv.T)}
    index = np.flatnonzero([column.tobytes() in kept for column in np.ascontiguousarray(heard[0].T)])
    assert len(index) == len(depth)
    return index, uv[:2].T, depth


@pytest.mark.parametrize("name", CAMERAS)
def test_equals_the_devkit(devkit: NuScenes, rig: Rig, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index, uv, depth = devkit_pairs(devkit, name, monkeypatch)
    assert len(index) > 2500
    pairs = pair_points(rig.points, rig.camera_from_lidar, rig.intrinsics, rig.width, rig.height)
    mine = np.flatnonzero(pairs.camera == CAMERAS.index(name))

    _, ours, theirs = np.intersect1d(pairs.point[mine], index, return_indices=True)
    np.testing.assert_allclose(pairs.uv[mine][ours], uv[theirs], rtol=0, atol=TOLERANCE_PX)
    np.testing.assert_allclose(pairs.depth[mine][ours], depth[theirs], rtol=0, atol=TOLERANCE_M)

    only_ours = pairs.uv[np.delete(mine, ours)], pairs.depth[np.delete(mine, ours)]
    only_theirs = np.delete(uv, theirs, axis=0), np.delete(depth, theirs)
    for border_uv, border_depth in (only_ours, only_theirs):
        for one_uv, one_depth in zip(border_uv, border_depth, strict=True):
            assert distance_to_border(one_uv, one_depth, rig) < TOLERANCE_PX


def distance_to_border(uv: np.ndarray, depth: float, rig: Rig) -> float:
    """How far a point is from the devkit's limits, in pixels, or from its least depth, in millimetres / 20."""
    to_border = np.abs([uv[0] - 1, rig.width - 1 - uv[0], uv[1] - 1, rig.height - 1 - uv[1]])
    return float(min(to_border.min(), abs(depth - 1.0) / TOLERANCE_M * TOLERANCE_PX))


def test_ego_motion_is_part_of_the_transform(devkit: NuScenes, rig: Rig) -> None:
    """The car moves between sweep and images: the static calibration alone is off by pixels."""
    pairs = pair_points(rig.points, rig.camera_from_lidar, rig.intrinsics, rig.width, rig.height)
    name = "CAM_FRONT"
    seen = pairs.camera == CAMERAS.index(name)
    data = devkit.sample[0]["data"]
    camera_from_lidar = inverse(ego_from_sensor(devkit, data[name])) @ ego_from_sensor(devkit, data["LIDAR_TOP"])
    static, _ = project(rig.points[pairs.point[seen]], camera_from_lidar, rig.intrinsics[CAMERAS.index(name)])
    assert np.abs(static - pairs.uv[seen]).max() > 5.0


def ego_from_sensor(devkit: NuScenes, data_token: str) -> np.ndarray:
    record = devkit.get("calibrated_sensor", devkit.get("sample_data", data_token)["calibrated_sensor_token"])
    return from_quaternion(record["rotation"], record["translation"])
