"""From a recipe and where the data lies to steps: which stage needs which inputs. Torch-free."""

from dataclasses import dataclass
from pathlib import Path

from hvd.config import Config
from hvd.datasets.fingerprint import KITTI_TEST, Part
from hvd.errors import UsageError
from hvd.models.teacher_config import TeacherConfig, weights_path
from stages.graph import Data, File, Node, Step, Stored
from stages.recipe import Recipe
from stages.specs import (
    BOXES,
    EVAL,
    EVAL_DETECTION,
    EXPORT,
    EXPORT_FEATURES,
    FEATURES,
    FINETUNE,
    FINETUNE_DETECTION,
    FRAMES,
    IMAGES,
    LABELS,
    PRETRAIN,
    SUPERPIXELS,
    WORLD,
    BoxesConfig,
    DatasetName,
    DetectEvalConfig,
    EvalConfig,
    ExportConfig,
    ExportFeaturesConfig,
    LabelsConfig,
)
from stages.training_specs import DetectFinetuneConfig, FinetuneConfig, PretrainConfig

SETTINGS_FILE = "hvd.toml"
WITH_CAMERAS: tuple[DatasetName, ...] = ("nuscenes", "kitti")
WORLD_VERSION = "v1.0-world"
DEFAULT_VERSION = "v1.0-trainval"


class DataSettings(Config):
    """The table [data] of hvd.toml: the data sets' roots, and the nuScenes version folder."""

    nuscenes: str | None = None
    semkitti: str | None = None
    kitti: str | None = None
    version: str | None = None


class Settings(Config):
    """What hvd.toml may say."""

    data: DataSettings = DataSettings()


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: its root, or the built-in world where `root` is None."""

    dataset: DatasetName
    root: Path | None = None
    version: str | None = None
    full_hash: bool = False

    @property
    def full_version(self) -> str | None:
        """The nuScenes version folder, and on kitti `testing` where that is asked for; None otherwise."""
        if self.dataset != "nuscenes":
            return KITTI_TEST if self.root and (self.dataset, self.version) == ("kitti", KITTI_TEST) else None
        return (self.version or DEFAULT_VERSION) if self.root else WORLD_VERSION

    def __str__(self) -> str:
        if self.root is None:
            return f"{self.dataset} from the built-in world"
        return f"{self.dataset} at {self.root / KITTI_TEST if self.full_version == KITTI_TEST else self.root}"


def world(recipe: Recipe, source: Source) -> Step:
    """The built-in world in the format of `source`'s data set."""
    return Step(WORLD, getattr(recipe.world, source.dataset))


def data(recipe: Recipe, source: Source, part: Part) -> Data:
    """The data set itself, in its own format."""
    made = None if source.root else world(recipe, source)
    return Data(source.dataset, source.full_version, part, source.root, made, source.full_hash and made is None)


def frames(recipe: Recipe, source: Source) -> Step:
    """Points, projections, correspondences and sparse depth."""
    config = recipe.frames.with_(dataset=source.dataset, version=source.full_version)
    return Step(FRAMES, config, (("data", data(recipe, source, "frames")),))


def labels(recipe: Recipe, source: Source) -> Step:
    """Raw point labels."""
    config = LabelsConfig(dataset=source.dataset, version=source.full_version)
    return Step(LABELS, config, (("data", data(recipe, source, "labels")), ("frames", frames(recipe, source))))


def boxes(recipe: Recipe, source: Source) -> Step:
    """Labelled boxes, calibrations and image sizes."""
    inputs = (
        ("label_files", data(recipe, source, "labels")),
        ("data", data(recipe, source, "frames")),
        ("frames", frames(recipe, source)),
    )
    return Step(BOXES, BoxesConfig(version=source.full_version), inputs)


def images(recipe: Recipe, source: Source) -> Step:
    """Camera images at the working size; of the frames that are left, where bad ones are skipped."""
    config = recipe.images.with_(dataset=source.dataset, version=source.full_version)
    inputs: list[tuple[str, Node]] = [("data", data(recipe, source, "frames"))]
    if recipe.frames.skip_bad:
        inputs.append(("frames", frames(recipe, source)))
    return Step(IMAGES, config, tuple(inputs))


def superpixels(recipe: Recipe, source: Source) -> Step:
    """SLIC segments of the images."""
    return Step(SUPERPIXELS, recipe.superpixels, (("images", images(recipe, source)),))


def features(recipe: Recipe, source: Source) -> Step:
    """The frozen teacher's feature maps of the images."""
    return Step(FEATURES, recipe.features, (("images", images(recipe, source)), *teacher(recipe.features.teacher)))


def teacher(config: TeacherConfig) -> tuple[tuple[str, Node], ...]:
    """The weights file as an input, unless the teacher is untrained on purpose."""
    path = weights_path(config)
    return () if path is None else (("teacher", File(path)),)


def prep(recipe: Recipe, source: Source, with_labels: bool = True) -> tuple[Step, ...]:
    """Everything that pre-training and fine-tuning read of a data set, as far as it has cameras."""
    steps = [frames(recipe, source)]
    if with_labels:
        steps.append(boxes(recipe, source) if source.dataset == "kitti" else labels(recipe, source))
    if source.dataset in WITH_CAMERAS:
        steps += [images(recipe, source), superpixels(recipe, source)]
        if recipe.pretrain.cached_features:
            steps.append(features(recipe, source))
    return tuple(steps)


def pretrain(recipe: Recipe, source: Source, config: PretrainConfig | None = None) -> Step:
    """Distillation on `source`."""
    config = (config or recipe.pretrain).only_views()
    if source.dataset == "kitti":
        config.require_two_images(1)  # before hours of preparation; of other data sets the stage knows the cameras
    inputs: list[tuple[str, Node]] = [("frames", frames(recipe, source)), ("superpixels", superpixels(recipe, source))]
    if config.cached_features:
        inputs.append(("features", features(recipe, source)))
    else:
        inputs += [("images", images(recipe, source)), *teacher(config.teacher)]
    return Step(PRETRAIN, config, tuple(inputs))


def finetune(
    recipe: Recipe, source: Source, config: FinetuneConfig | DetectFinetuneConfig, student: Node | None
) -> Step:
    """Fine-tuning on `source`, of a detector if `config` is one's; without a student, from random weights.

    Raises:
        UsageError: the test part of KITTI, which has no labels.
    """
    if source.full_version == KITTI_TEST:
        raise UsageError(f"nothing is labelled in {source}", hint="leave --version away")
    detects = isinstance(config, DetectFinetuneConfig)
    inputs = _labelled(recipe, source, detects)
    if student is not None:
        inputs.append(("student", student))
    return Step(FINETUNE_DETECTION if detects else FINETUNE, config, tuple(inputs))


def evaluate(recipe: Recipe, source: Source, config: EvalConfig | DetectEvalConfig, model: Step | Stored) -> Step:
    """Evaluation of a fine-tuned model on `source`, of a detector if `config` is one's; test parts have no labels.

    Raises:
        UsageError: the test part of KITTI, on a source that isn't it: its frames are numbered as those of training are.
    """
    detects = isinstance(config, DetectEvalConfig)
    if detects and config.split == "test" and source.full_version != KITTI_TEST:
        hint = "it is a real root's testing/: name it with --root and --split test"
        raise UsageError(f"no test part of {source}", hint=hint)
    data = _labelled(recipe, source, detects)
    if config.split == "test" and not detects:  # boxes bring calibrations too
        data = [("frames", frames(recipe, source))]
    inputs = (*data, ("model", model))
    return Step(EVAL_DETECTION if detects else EVAL, config.with_(dataset=source.dataset), inputs)


def _labelled(recipe: Recipe, source: Source, detects: bool) -> list[tuple[str, Node]]:
    answers = ("boxes", boxes(recipe, source)) if detects else ("labels", labels(recipe, source))
    return [("frames", frames(recipe, source)), answers]


def export(config: ExportConfig, student: Node) -> Step:
    """The student's weights with a model card."""
    return Step(EXPORT, config, (("student", student),))


def export_features(recipe: Recipe, source: Source, config: ExportFeaturesConfig, student: Node) -> Step:
    """Per-point features as HDF5."""
    return Step(EXPORT_FEATURES, config, (("frames", frames(recipe, source)), ("student", student)))
