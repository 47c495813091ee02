"""One small world of each rig, written once for all tests of this folder."""

from pathlib import Path

import pytest

from hvd.world.build import write_world
from hvd.world.config import WorldConfig, smoke_world


@pytest.fixture(scope="session")
def nuscenes_config() -> WorldConfig:
    return smoke_world("nuscenes", seed=3)


@pytest.fixture(scope="session")
def nuscenes_root(nuscenes_config: WorldConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nuscenes")
    write_world(nuscenes_config, out, out.with_name(f"{out.name}-notes"), workers=1)
    return out


@pytest.fixture(scope="session")
def kitti_config() -> WorldConfig:
    return smoke_world("kitti", seed=3).with_(train_scenes=2, val_scenes=1, frames_per_scene=3)


@pytest.fixture(scope="session")
def kitti_root(kitti_config: WorldConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kitti")
    write_world(kitti_config, out, out.with_name(f"{out.name}-notes"), workers=1)
    return out
