"""Which drives a world has, what they are called and in which split they are; torch-free and without the ray caster."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hvd.datasets.splits import SEMANTICKITTI_HELD_OUT
from hvd.world.config import TRAIN_SEQUENCES, VAL_SEQUENCES, WorldConfig

if TYPE_CHECKING:
    from hvd.world.materials import Split

T = TypeVar("T")
_HELD_OUT = 7  # one training scene of seven is held out by the `parametrize` split


def scene_name(number: int) -> str:
    """Name of a drive in the nuScenes format, numbered over both splits from 0."""
    return f"scene-{number + 1:04d}"


def sequences(config: WorldConfig, split: "Split") -> dict[str, list[int]]:
    """Drives of each SemanticKITTI sequence of a split, in order; a small world has fewer sequences."""
    names = TRAIN_SEQUENCES if split == "train" else VAL_SEQUENCES
    count = config.train_scenes if split == "train" else config.val_scenes
    shares = np.array_split(np.arange(count), min(count, len(names)))
    return {name: share.tolist() for name, share in zip(names, shares, strict=False)}


def frame_name(config: WorldConfig, drive: int, key_frame: int) -> str:
    """Name of a key frame in the format of KITTI's objects; drives are numbered over both splits from 0."""
    return f"{drive * config.frames_per_scene + key_frame:06d}"


def _frame_names(config: WorldConfig, drives: Iterable[int]) -> list[str]:
    return [frame_name(config, drive, key_frame) for drive in drives for key_frame in range(config.frames_per_scene)]


def frame_scenes(config: WorldConfig) -> tuple[str, ...]:
    """The scene, or sequence, of every key frame; KITTI's objects have no scenes: the frame's own name."""
    if config.rig == "kitti-object":
        return tuple(_frame_names(config, range(config.train_scenes + config.val_scenes)))
    if config.rig == "kitti":
        drives = {**sequences(config, "train"), **sequences(config, "val")}
        return tuple(name for name in sorted(drives) for _ in range(len(drives[name]) * config.frames_per_scene))
    count = config.train_scenes + config.val_scenes
    return tuple(scene_name(i) for i in range(count) for _ in range(config.frames_per_scene))


def splits(config: WorldConfig) -> dict[str, dict[str, list[str]]]:
    """Scene names by kind of split and part; `parametrize` holds out training scenes in place of validation ones.

    Of KITTI's objects the parts list frames, and all frames of a drive are in one part.
    """
    if config.rig == "kitti-object":
        drives = _nuscenes_like(config, list(range(config.train_scenes + config.val_scenes)))
        return {
            kind: {part: _frame_names(config, numbers) for part, numbers in parts.items()}
            for kind, parts in drives.items()
        }
    if config.rig == "kitti":
        split = {part: list(sequences(config, part)) for part in ("train", "val")}
        names = split["train"]
        last = SEMANTICKITTI_HELD_OUT if SEMANTICKITTI_HELD_OUT in names else names[-1]  # a small world has fewer
        return {"paper": split, "parametrize": _without(names, [last])}
    return _nuscenes_like(config, [scene_name(i) for i in range(config.train_scenes + config.val_scenes)])


def _nuscenes_like(config: WorldConfig, names: list[T]) -> dict[str, dict[str, list[T]]]:
    """The parts of both kinds of splits, for drives by name or by number."""
    train = names[: config.train_scenes]
    held_out = train[_HELD_OUT - 1 :: _HELD_OUT] or train[-1:]
    return {
        "paper": {"train": train, "val": names[config.train_scenes :]},
        "parametrize": _without(train, held_out),
    }


def _without(train: list[T], held_out: list[T]) -> dict[str, list[T]]:
    return {"train": [name for name in train if name not in held_out], "val": held_out}
