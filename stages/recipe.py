"""What a recipe is: the complete configurations of all stages, and what is derived from them."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from hvd.config import Config
from hvd.datasets.splits import LabelBudget
from hvd.errors import UsageError
from hvd.models.config import BevHeadConfig
from hvd.models.detector_config import DecodeConfig, VoxelNetConfig
from hvd.world.config import WorldConfig
from stages.specs import (
    Count,
    DatasetName,
    DetectEvalConfig,
    EvalConfig,
    ExportConfig,
    ExportFeaturesConfig,
    FeaturesConfig,
    FramesConfig,
    ImagesConfig,
    Positive,
    SuperpixelsConfig,
)
from stages.training_specs import DetectFinetuneConfig, FinetuneConfig, PretrainConfig

FIND_ALL = DecodeConfig(min_score=0.01)  # a box of a low score costs no average precision, and may earn some


class Worlds(Config):
    """The built-in world, once per sensor rig."""

    nuscenes: WorldConfig
    semkitti: WorldConfig
    kitti: WorldConfig


class Finetunes(Config):
    """Fine-tuning, per data set."""

    nuscenes: FinetuneConfig
    semkitti: FinetuneConfig


class AllFinetunes(Finetunes):
    """Fine-tuning for detection too."""

    kitti: DetectFinetuneConfig


def _share(labels: str) -> str:
    try:
        share = LabelBudget.parse(labels).share
    except UsageError as error:
        raise ValueError(str(error)) from None
    if share is None:
        raise ValueError(f"{labels} is a number of frames: give a share, as in 5%")
    return labels


class LabelFraction(Config):
    """How a labelled share is learnt, in place of the data set's usual number of steps and learning rates."""

    labels: Annotated[str, AfterValidator(_share)]  # such as 5%
    steps: Count | None = None  # None: as usual
    rate: Positive = 1.0  # times the usual learning rates


class LabelFractions(Config):
    """The shares that are learnt in a way of their own, per data set."""

    nuscenes: tuple[LabelFraction, ...] = ()
    semkitti: tuple[LabelFraction, ...] = ()
    kitti: tuple[LabelFraction, ...] = ()


class TableRecipe(Config):
    """What `hvd reproduce` compares: fine-tuning seeds, on one student and the same labels."""

    seeds: tuple[int, ...] = (0, 1, 2)
    pretrain_seed: int = 0
    semkitti_steps: Count | None = None  # of fine-tuning, where it takes fewer than usual; None: as usual


class StudyRecipe(Config):
    """What `hvd table` compares, over pre-training seeds."""

    seeds: Count = 5
    few_seeds: Count = 3  # in the columns with more labels
    equal_time: Positive = 1.5  # a step with both views takes 1.42 to 1.47 times one view's processor time
    # Tried on held-out training scenes, times the fine-tuning's own.
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0)


class WideImages(Config):
    """Sizes for KITTI's images, which are over three times as wide as high: of the network's input, and as stored."""

    height: Count
    width: Count
    stored_height: Count
    stored_width: Count


class Recipe(Config):
    """All stages' configurations; each command takes its own slice."""

    world: Worlds
    frames: FramesConfig
    images: ImagesConfig
    superpixels: SuperpixelsConfig
    features: FeaturesConfig
    pretrain: PretrainConfig
    finetune: AllFinetunes
    by_labels: LabelFractions = LabelFractions()
    probe: Finetunes
    eval: EvalConfig
    eval_detection: DetectEvalConfig = DetectEvalConfig(decode=FIND_ALL)
    export: ExportConfig = ExportConfig()
    export_features: ExportFeaturesConfig = ExportFeaturesConfig(dataset="nuscenes")
    table: TableRecipe = TableRecipe()
    study: StudyRecipe = StudyRecipe()
    kitti_images: WideImages

    @model_validator(mode="after")
    def _one_teacher_and_size(self) -> Self:
        pretrain, features = self.pretrain, self.features
        if (pretrain.height, pretrain.width) != (self.superpixels.height, self.superpixels.width):
            raise ValueError("pretrain and superpixels need the same height and width: set both")
        if pretrain.cached_features and (pretrain.teacher, pretrain.height, pretrain.width) != (
            features.teacher,
            features.height,
            features.width,
        ):
            raise ValueError(
                "with cached features, pretrain and features need the same teacher, height and width:"
                " set both, or pretrain.cached_features=false"
            )
        return self


def for_data_set(recipe: Recipe, dataset: DatasetName) -> Recipe:
    """The recipe with the sizes of a data set's images, and crops of their shape: KITTI's replace the usual ones."""
    if dataset != "kitti":
        return recipe
    wide, usual = recipe.kitti_images, recipe.pretrain
    size = {"height": wide.height, "width": wide.width}
    crops = usual.image_augmentation
    if crops is not None:
        wider = (wide.width / wide.height) / (usual.width / usual.height)
        crops = crops.with_(ratio=tuple(wider * end for end in crops.ratio))
    return recipe.with_(
        frames=recipe.frames.with_(depth_height=wide.height // 4, depth_width=wide.width // 4),
        images=recipe.images.with_(height=wide.stored_height, width=wide.stored_width),
        superpixels=recipe.superpixels.with_(**size),
        features=recipe.features.with_(**size),
        pretrain=usual.with_(**size, image_augmentation=crops, batch=max(2, usual.batch)),  # two images at a time
    )


def for_labels(
    recipe: Recipe, dataset: DatasetName, labels: str, rate: float | None = None
) -> FinetuneConfig | DetectFinetuneConfig:
    """How the share or number `labels` of a data set is learnt; `rate` times the usual learning rates, if given.

    Raises:
        UsageError: `labels` is neither.
    """
    usual: FinetuneConfig | DetectFinetuneConfig = getattr(recipe.finetune, dataset).with_(labels=labels)
    share = LabelBudget.parse(labels).share
    own: tuple[LabelFraction, ...] = getattr(recipe.by_labels, dataset)
    found = next((item for item in own if share is not None and share == LabelBudget.parse(item.labels).share), None)
    if found is not None:
        if found.steps is not None:
            usual = usual.with_(steps=found.steps, epochs=None)
        rate = found.rate if rate is None else rate
    return usual if rate is None else at_rate(usual, rate)


def at_rate(config: FinetuneConfig | DetectFinetuneConfig, rate: float) -> FinetuneConfig | DetectFinetuneConfig:
    """`config` with `rate` times its learning rates."""
    optimizer = config.optimizer.with_(lr=rate * config.optimizer.lr)
    return config.with_(optimizer=optimizer, head_lr=rate * config.head_lr)


def full_labels(recipe: Recipe) -> FinetuneConfig:
    """Training from scratch on all nuScenes labels, twelve times as long: what a student can learn at all.

    Raises:
        UsageError: the recipe counts epochs.
    """
    base = recipe.finetune.nuscenes
    if base.steps is None:
        raise UsageError("the audit counts fine-tuning in steps", hint="choose --recipe mini")
    return base.with_(labels="100%", steps=12 * base.steps)


def with_voxelnet(recipe: Recipe, network: VoxelNetConfig, head: BevHeadConfig) -> Recipe:
    """`recipe`, pre-training `network` in place of the U-Net; its weights fit a detector of any range.

    Its range is that of pre-training, all around the sensor. Along z a VoxelNet takes 24, 40, 56, ... voxels, and
    -5..3 m are 80: it is widened upward, to 3.8 m. The points are still those within -5..3 m, as for the U-Net, and
    what augmentation lifts stays inside; below the road there is nothing to gain.
    """
    config = recipe.pretrain
    reach = config.range_m
    student = network.over((-reach, -reach, config.z_min_m), (reach, reach, config.z_max_m))
    bev = None if config.bev is None else config.bev.with_(head=head)
    return recipe.with_(pretrain=config.with_(student=student, bev=bev))
