"""What a stage will cost, said before it starts: the key frames it reads, its optimiser steps, the bytes it writes.

Torch-free. Sizes are those of arrays before compression; weights and figures, small beside a data set, count as none.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from hvd.datasets.listing import Listing
from hvd.datasets.nuscenes import CAMERAS
from hvd.datasets.splits import LABEL_UNIT, LabelBudget
from hvd.models.config import STUDENT_CONFIGS, kind_of
from hvd.world.config import WorldConfig
from hvd.world.drives import frame_scenes, splits
from stages.graph import Data, Node, Step, Stored
from stages.specs import (
    BoxesConfig,
    DetectEvalConfig,
    EvalConfig,
    ExportFeaturesConfig,
    FeaturesConfig,
    FramesConfig,
    ImagesConfig,
    LabelsConfig,
    SuperpixelsConfig,
)
from stages.training_specs import DetectFinetuneConfig, FinetuneConfig, PretrainConfig

_POINT_BYTES = 16  # x, y, z, intensity
_PAIR_BYTES = 17  # point, camera, u, v, depth; about one pair a point
_BEAMS = {"nuscenes": 32, "kitti": 64, "kitti-object": 64}
_BOXES_BYTES = 2000  # a label file and a calibration
_RESULT_BYTES = 100  # a detected box
_PREDICTION_BYTES = {"nuscenes": 1, "semkitti": 4}


class Cost(NamedTuple):
    """None: not known before it starts, or nothing of that sort."""

    frames: int | None = None
    steps: int | None = None
    size_bytes: int | None = None


def cost(step: Step, listing_of: Callable[[Data], Listing], config_of: Callable[[Stored], dict[str, Any]]) -> Cost:
    """What running `step` takes.

    Args:
        step: planned, not run.
        listing_of: what a data set holds.
        config_of: the configuration that an artifact was made with.

    Raises:
        InputError: the data set can't be listed, or has nothing in the split.
        UsageError: more labels asked for than there are.
    """
    if isinstance(step.config, WorldConfig):
        return _world_cost(step.config)
    data = _data_of(step)
    return Cost() if data is None else _cost(step, listing_of(data), config_of)


def planned_listing(config: WorldConfig) -> Listing:
    """What a world that has yet to be made will hold."""
    lists = {kind: {split: tuple(names) for split, names in found.items()} for kind, found in splits(config).items()}
    cameras = {"nuscenes": len(CAMERAS), "kitti": 0, "kitti-object": 1}[config.rig]  # SemanticKITTI's is not read
    return Listing(frame_scenes(config), lists.__getitem__, cameras, _rays(config))


def _world_cost(config: WorldConfig) -> Cost:
    count, pixels = len(frame_scenes(config)), config.image_width * config.image_height
    cameras = len(CAMERAS) if config.rig == "nuscenes" else 1
    return Cost(count, None, count * (_rays(config) * (_POINT_BYTES + 4) + cameras * pixels * 3))


def _rays(config: WorldConfig) -> int:
    return _BEAMS[config.rig] * config.lidar_columns


def _data_of(step: Step) -> Data | None:
    """The data set behind a step."""
    for _, node in step.inputs:
        data = node if isinstance(node, Data) else _data_of(node) if isinstance(node, Step) else None
        if data is not None:
            return data
    return None


def _cost(step: Step, data: Listing, config_of: Callable[[Stored], dict[str, Any]]) -> Cost:
    count, cameras = len(data.scenes), data.cameras
    match step.config:
        case FramesConfig() as frames:
            depth = cameras * frames.depth_height * frames.depth_width * 4
            pairs = data.points * _PAIR_BYTES if cameras else 0
            return Cost(count, None, count * (data.points * _POINT_BYTES + pairs + depth))
        case LabelsConfig():
            return Cost(count, None, count * data.points * 2)
        case ImagesConfig() as images:
            return Cost(count, None, count * cameras * images.height * images.width * 3)
        case SuperpixelsConfig() as pixels:
            return Cost(count, None, count * cameras * pixels.height * pixels.width * 2)
        case FeaturesConfig() as features:
            shape = features.teacher.shape
            cells = (features.height // shape.stride) * (features.width // shape.stride)
            return Cost(count, None, count * cameras * cells * shape.channels * 2)
        case PretrainConfig() as pretrain:
            rows = len(data.rows(pretrain.splits, pretrain.split))
            return Cost(rows, pretrain.total_steps(rows), None)
        case BoxesConfig():
            return Cost(count, None, count * _BOXES_BYTES)
        case FinetuneConfig() | DetectFinetuneConfig() as tune:
            labelled = _num_labelled(tune, data)
            return Cost(labelled, tune.total_steps(labelled), None)
        case EvalConfig() as evaluate:
            rows = len(data.rows(evaluate.splits, evaluate.split))
            size = rows * data.points * _PREDICTION_BYTES[evaluate.dataset] if evaluate.predictions else None
            return Cost(rows, None, size)
        case DetectEvalConfig() as detect:
            rows = len(data.rows(detect.splits, detect.split))
            return Cost(rows, None, rows * detect.decode.candidates * _RESULT_BYTES)
        case ExportFeaturesConfig() as export:
            rows = len(data.rows(export.splits, export.split))
            channels = _channels(dict(step.inputs)["student"], config_of)
            return Cost(rows, None, None if channels is None else rows * data.points * channels * 2)
    return Cost()


def _num_labelled(config: FinetuneConfig | DetectFinetuneConfig, data: Listing) -> int:
    rows = data.rows(config.splits, config.split)
    scenes = [data.scenes[row] for row in rows]
    return len(LabelBudget.parse(config.labels).select(scenes, config.label_offset, LABEL_UNIT[config.dataset]))


def _channels(student: Node, config_of: Callable[[Stored], dict[str, Any]]) -> int | None:
    """Width of a student's features; None for a weights file, which is not opened here."""
    match student:
        case Step(config=PretrainConfig() as config):
            return config.student.feature_channels
        case Stored():
            values = config_of(student)["student"]
            return STUDENT_CONFIGS[kind_of(values)].model_validate(values).feature_channels
    return None
