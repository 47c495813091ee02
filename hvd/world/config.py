"""What decides the bytes of a built-in world (torch-free: it enters the key of everything made from the world)."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hvd.config import Config

RigName = Literal["nuscenes", "kitti", "kitti-object"]
VERSION = "v1.0-world"  # name of the nuScenes tables
TRAIN_SEQUENCES = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
VAL_SEQUENCES = ("08",)
MAX_SPEED_M_S = 12.0  # of the ego vehicle
_STREET_M = 40.0  # of the way that it may go along a street


class WorldConfig(Config):
    """One built-in world: a rig, a seed and sizes. Scenes are drives of a few frames through one street each."""

    rig: RigName
    seed: int = Field(default=0, ge=0)
    train_scenes: int = Field(default=100, ge=1)
    val_scenes: int = Field(default=20, ge=1)
    frames_per_scene: int = Field(default=2, ge=1)
    frame_interval_s: float = Field(default=0.5, gt=0)
    image_width: int = Field(default=224, ge=16)
    image_height: int = Field(default=128, ge=16)
    antialias: bool = True  # more rays through pixels on edges
    lidar_columns: int = Field(default=540, ge=8)  # azimuth steps of a turn

    @model_validator(mode="after")
    def _stays_on_the_street(self) -> Self:
        if self.duration_s * MAX_SPEED_M_S > _STREET_M:
            raise ValueError(f"a drive of {self.duration_s:g} s is longer than its street: take fewer frames a scene")
        return self

    @property
    def duration_s(self) -> float:
        """Seconds from a drive's first key frame to its last."""
        return self.frame_interval_s * (self.frames_per_scene - 1)


def mini_world(rig: RigName, seed: int = 0) -> WorldConfig:
    """The world of the `mini` recipe: 200 training frames of one sensor, and 40 for validation (with boxes 60)."""
    if rig == "kitti":
        return WorldConfig(rig=rig, seed=seed, image_width=310, image_height=94, antialias=False, lidar_columns=512)
    if rig == "kitti-object":  # objects count by their height in pixels, so the image is larger; a street is seen once
        sizes: dict[str, Any] = {"image_width": 640, "image_height": 192, "antialias": False, "lidar_columns": 720}
        return WorldConfig(rig=rig, seed=seed, train_scenes=200, val_scenes=60, frames_per_scene=1, **sizes)
    return WorldConfig(rig=rig, seed=seed)


def smoke_world(rig: RigName, seed: int = 0) -> WorldConfig:
    """The world of the `smoke` recipe: a handful of scenes with small sensors, written in seconds."""
    sizes: dict[str, Any] = {"image_width": 96, "image_height": 56, "antialias": False, "lidar_columns": 180}
    if rig == "kitti-object":
        sizes |= {"image_width": 208, "image_height": 64}
    return WorldConfig(rig=rig, seed=seed, train_scenes=4, val_scenes=2, frames_per_scene=2, **sizes)
