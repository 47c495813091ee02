"""Every stage's name, version and frozen configuration. Torch-free: planning and keys need no more than this."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hvd.config import Config
from hvd.models.detector_config import DecodeConfig
from hvd.models.teacher_config import TeacherConfig

DatasetName = Literal["nuscenes", "semkitti", "kitti"]
BoxesOf = Literal["kitti"]  # the data sets whose labels are boxes
ObjectName = Literal["Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc"]
View = Literal["ipv", "bev"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
OnlyIfTrue = Annotated[bool | None, AfterValidator(lambda value: value or None)]  # false enters no key


def _rising(edges: tuple[float, ...]) -> tuple[float, ...]:
    if list(edges) != sorted(set(edges)):
        raise ValueError("not in rising order")
    return edges


@dataclass(frozen=True)
class Stage:
    """A stage: `module` holds `run(config, inputs, work, runtime)` and is imported on a miss only."""

    name: str
    version: int
    module: str
    parallel: bool = False  # brings its own worker pool: `reproduce` runs it alone
    trains: bool = False  # days may be in its unfinished work


WORLD = Stage("world", 3, "stages.world", parallel=True)
FRAMES = Stage("frames", 2, "stages.prep_frames", parallel=True)
LABELS = Stage("labels", 1, "stages.prep_labels", parallel=True)
IMAGES = Stage("images", 1, "stages.prep_images", parallel=True)
SUPERPIXELS = Stage("superpixels", 1, "stages.prep_superpixels", parallel=True)
FEATURES = Stage("features", 1, "stages.prep_features", parallel=True)
PRETRAIN = Stage("pretrain", 3, "stages.pretrain", trains=True)
FINETUNE = Stage("finetune", 1, "stages.finetune", trains=True)
EVAL = Stage("eval", 1, "stages.evaluate")
BOXES = Stage("boxes", 1, "stages.prep_boxes")
FINETUNE_DETECTION = Stage("finetune-detection", 2, "stages.finetune_detection", trains=True)
EVAL_DETECTION = Stage("eval-detection", 4, "stages.evaluate_detection")
EXPORT = Stage("export", 1, "stages.export")
EXPORT_FEATURES = Stage("export-features", 1, "stages.export_features")
TABLE = Stage("table", 1, "stages.table")
_SEGMENTATION = (WORLD, FRAMES, LABELS, IMAGES, SUPERPIXELS, FEATURES, PRETRAIN, FINETUNE, EVAL)
_DETECTION = (BOXES, FINETUNE_DETECTION, EVAL_DETECTION)
_ALL = (*_SEGMENTATION, *_DETECTION, EXPORT, EXPORT_FEATURES, TABLE)
STAGES = {stage.name: stage for stage in _ALL}


class FramesConfig(Config):
    """Geometry of every key frame; `depth_height` x `depth_width` is the stored sparse depth map."""

    dataset: DatasetName
    version: str | None = None
    depth_height: Count = 56
    depth_width: Count = 104
    skip_bad: OnlyIfTrue = None  # leave out key frames of which the sweep or an image can't be read


class LabelsConfig(Config):
    """Raw label ids in point order."""

    dataset: DatasetName
    version: str | None = None


class ImagesConfig(Config):
    """Camera images at the working size, in pixels."""

    dataset: DatasetName
    version: str | None = None
    height: Count = 448
    width: Count = 800


class SuperpixelsConfig(Config):
    """SLIC on the image at the network's input size (method: 150 segments, compactness 6, sigma 3)."""

    height: Count = 224
    width: Count = 416
    segments: Annotated[int, Field(gt=0, lt=65535)] = 150
    compactness: Positive = 6.0
    sigma: NonNegative = 3.0


class FeaturesConfig(Config):
    """The frozen teacher's feature maps of the images, resized to the network's input size."""

    height: Count = 224
    width: Count = 416
    teacher: TeacherConfig
    threads: Count = 2


class EvalConfig(Config):
    """One pass over a split: mIoU as the benchmark defines it, per class and by range; of `test` predictions alone."""

    dataset: DatasetName
    splits: Literal["paper", "parametrize"] = "paper"
    split: Literal["train", "val", "all", "test"] = "val"
    range_edges_m: Annotated[tuple[Positive, ...], AfterValidator(_rising)] = (20.0, 40.0)
    predictions: bool = False
    threads: Count = 2

    @model_validator(mode="after")
    def _test_is_not_scored(self) -> "EvalConfig":
        if self.split == "test" and not self.predictions:
            raise ValueError("the benchmark keeps the labels of test: nothing can be scored, ask for predictions")
        return self


class BoxesConfig(Config):
    """Labelled boxes and calibrations in the benchmark's own files."""

    dataset: BoxesOf = "kitti"
    version: str | None = None


class DetectEvalConfig(Config):
    """One pass over a split: result files in the benchmark's format, and but for `test` average precision from them."""

    dataset: BoxesOf = "kitti"
    splits: Literal["paper", "parametrize"] = "paper"
    split: Literal["train", "val", "all", "test"] = "val"
    decode: DecodeConfig = DecodeConfig()
    threads: Count = 2


class ExportConfig(Config):
    """Student weights, config and model card."""

    format: Literal["safetensors", "openpcdet"] = "safetensors"  # openpcdet: of a VoxelNet, under that program's names


class ExportFeaturesConfig(Config):
    """Per-point features of a split as one HDF5 file."""

    dataset: DatasetName
    splits: Literal["paper", "parametrize"] = "paper"
    split: Literal["train", "val", "all"] = "val"
    threads: Count = 2


class TableConfig(Config):
    """Cells of the result table: each names its row, column and seed, in the order of the inputs."""

    cells: tuple[tuple[str, str, int], ...]
