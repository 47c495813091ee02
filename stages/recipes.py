"""Recipes: complete configurations by name.

`paper` is the paper's protocol, `mini` the built-in world on two CPU cores, `smoke` the same in seconds for tests.
A file and `--set` are laid on top, and the whole is validated again.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hvd.config import Tree, merge, parse, parse_set, read_toml
from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.datasets.box_augment_config import BoxAugmentation, ObjectSampling
from hvd.errors import UsageError
from hvd.models.config import (
    PAPER_BEV_HEAD,
    PAPER_UNET,
    PAPER_VOXELNET_BEV_HEAD,
    SMALL_BEV_HEAD,
    SMALL_UNET,
    StudentKind,
)
from hvd.models.detector_config import (
    KITTI_DETECTOR,
    KITTI_VOXELNET,
    SMALL_DETECTOR,
    SMALL_VOXELNET,
)
from hvd.models.teacher_config import PAPER_DEPTH_NET, SMALL_DEPTH_NET, DepthBins, TeacherConfig
from hvd.world.config import mini_world, smoke_world
from stages.recipe import (
    FIND_ALL,
    AllFinetunes,
    Finetunes,
    LabelFraction,
    LabelFractions,
    Recipe,
    StudyRecipe,
    TableRecipe,
    WideImages,
    Worlds,
    for_data_set,
    for_labels,
    with_voxelnet,
)
from stages.specs import (
    DatasetName,
    DetectEvalConfig,
    EvalConfig,
    ExportFeaturesConfig,
    FeaturesConfig,
    FramesConfig,
    ImagesConfig,
    SuperpixelsConfig,
)
from stages.training_specs import AdamW, BevConfig, DetectFinetuneConfig, FinetuneConfig, IpvConfig, PretrainConfig, Sgd

TURN = PointAugmentation(rotation_deg=180.0, shift_std_m=0.0, scale=(1.0, 1.0), flip=True, drop_cuboid=0.0)
SECOND = BoxAugmentation(rotation_deg=45.0, scale=(0.95, 1.05), flip_y=True)
STILL = PointAugmentation(rotation_deg=0.0, shift_std_m=0.0, scale=(1.0, 1.0), flip=False, drop_cuboid=0.0)


def paper() -> Recipe:
    """The paper's protocol; where it differs from the releases: docs/decisions/0012."""
    teacher = TeacherConfig(name="resnet50")
    student = PAPER_UNET
    height, width = 224, 416
    tuned = student.with_(norm_momentum=0.02)
    sgd: dict[str, Any] = {"batch": 16, "epochs": 100, "student": tuned, "head_lr": 2.0, "point_augmentation": TURN}
    probe = {**sgd, "labels": "100%", "linear_probe": True, "optimizer": Sgd(lr=0.05), "head_lr": 0.05}
    return Recipe(
        world=_worlds(),
        frames=FramesConfig(dataset="nuscenes", depth_height=height // 4, depth_width=width // 4),
        images=ImagesConfig(dataset="nuscenes", height=448, width=800),
        superpixels=SuperpixelsConfig(height=height, width=width),
        features=FeaturesConfig(height=height, width=width, teacher=teacher),
        pretrain=PretrainConfig(
            views=("ipv", "bev"),
            height=height,
            width=width,
            epochs=50,
            batch=16,
            accumulate=4,  # as on the paper's four GPUs: 4 frames are contrasted with one another
            amp=True,
            student=student,
            teacher=teacher,
            optimizer=Sgd(lr=0.5),
            point_augmentation=PointAugmentation(
                rotation_deg=22.5, shift_std_m=0.5, scale=(0.9, 1.1), flip=True, drop_cuboid=0.2
            ),
            image_augmentation=ImageAugmentation(scale=(0.3, 1.0), ratio=(14 / 9, 17 / 9), flip=0.5),
            ipv=IpvConfig(),
            bev=BevConfig(
                head=PAPER_BEV_HEAD,
                depth_net=PAPER_DEPTH_NET,
                depth_bins=DepthBins(lo_m=1.0, hi_m=60.0, step_m=0.5),
            ),
        ),
        finetune=AllFinetunes(
            nuscenes=FinetuneConfig(dataset="nuscenes", **sgd, optimizer=Sgd(lr=0.02)),
            semkitti=FinetuneConfig(dataset="semkitti", **{**sgd, "batch": 10}, optimizer=Sgd(lr=0.05)),
            kitti=DetectFinetuneConfig(
                epochs=80,
                batch=8,
                detector=KITTI_DETECTOR,
                optimizer=AdamW(lr=3e-3, warmup=0.4),
                head_lr=3e-3,
                augmentation=SECOND,
                sampling=ObjectSampling(),
            ),
        ),
        probe=Finetunes(
            nuscenes=FinetuneConfig(dataset="nuscenes", **probe),
            semkitti=FinetuneConfig(dataset="semkitti", **{**probe, "batch": 10}),
        ),
        eval=EvalConfig(dataset="nuscenes"),
        kitti_images=WideImages(height=160, width=528, stored_height=320, stored_width=1056),
    )


def mini() -> Recipe:
    """The built-in world on two CPU cores: one thread a stage, because `reproduce` runs two stages side by side."""
    teacher = TeacherConfig(name="efficientnet_lite0")
    student = SMALL_UNET
    height, width = 128, 224
    short: dict[str, Any] = {
        "batch": 2,
        "threads": 1,
        "student": student,
        "optimizer": AdamW(lr=2e-3),
        "head_lr": 1e-2,
        "point_augmentation": TURN,
    }
    probe = {
        **short,
        "labels": "100%",
        "linear_probe": True,
        "cached_features": True,
        "steps": 400,
        "batch": 8,
        "optimizer": AdamW(lr=1e-2),
        "point_augmentation": STILL,
    }
    # Rates are the best of the students of both views, docs/results/tuning.md; steps were set once, and not searched.
    nuscenes = (("5%", 200, 2.0), ("10%", 300, 2.0), ("100%", 600, 1.0))
    semkitti = (("1%", None, 2.0), ("5%", 200, 1.0), ("10%", 300, 2.0), ("100%", 600, 1.0))
    kitti = (("5%", None, 1.0), ("10%", None, 2.0), ("20%", None, 1.0))
    return Recipe(
        world=_worlds(),
        frames=FramesConfig(dataset="nuscenes", depth_height=height // 4, depth_width=width // 4),
        images=ImagesConfig(dataset="nuscenes", height=height, width=width),
        superpixels=SuperpixelsConfig(height=height, width=width),
        features=FeaturesConfig(height=height, width=width, teacher=teacher, threads=1),
        pretrain=PretrainConfig(
            views=("ipv", "bev"),
            height=height,
            width=width,
            steps=400,
            batch=4,
            threads=1,
            student=student,
            teacher=teacher,
            cached_features=True,
            optimizer=AdamW(lr=3e-3),
            point_augmentation=PointAugmentation(
                rotation_deg=180.0, shift_std_m=0.0, scale=(0.9, 1.1), flip=True, drop_cuboid=0.0
            ),
            ipv=IpvConfig(full_resolution=False),
            bev=BevConfig(
                weight=0.5,
                cells=3072,
                cell_m=0.8,
                head=SMALL_BEV_HEAD,
                depth_net=SMALL_DEPTH_NET,
                depth_bins=DepthBins(lo_m=1.0, hi_m=51.0, step_m=1.0),
                depth_loss="ce",
                depth_weight=1.0,
                min_weight=0.02,
                lift="measured",  # docs/decisions/0011
                min_voxels=2,
                weigh_up_to=16,
            ),
        ),
        finetune=AllFinetunes(
            nuscenes=FinetuneConfig(dataset="nuscenes", **short, steps=100),
            semkitti=FinetuneConfig(dataset="semkitti", **short, steps=100),
            kitti=DetectFinetuneConfig(
                steps=800,  # docs/decisions/0010
                batch=2,
                threads=1,
                detector=SMALL_DETECTOR,
                optimizer=AdamW(lr=3e-3),
                head_lr=3e-3,
                augmentation=SECOND,
                sampling=ObjectSampling(up_to=(("Car", 8), ("Pedestrian", 6), ("Cyclist", 6))),
            ),
        ),
        by_labels=LabelFractions(nuscenes=_fractions(nuscenes), semkitti=_fractions(semkitti), kitti=_fractions(kitti)),
        table=TableRecipe(semkitti_steps=60),  # docs/decisions/0006
        probe=Finetunes(
            nuscenes=FinetuneConfig(dataset="nuscenes", **probe),
            semkitti=FinetuneConfig(dataset="semkitti", **probe),
        ),
        eval=EvalConfig(dataset="nuscenes", threads=1),
        kitti_images=WideImages(height=96, width=320, stored_height=96, stored_width=320),
        eval_detection=DetectEvalConfig(decode=FIND_ALL, threads=1),
        export_features=ExportFeaturesConfig(dataset="nuscenes", threads=1),
    )


def _fractions(values: Iterable[tuple[str, int | None, float]]) -> tuple[LabelFraction, ...]:
    return tuple(LabelFraction(labels=labels, steps=steps, rate=rate) for labels, steps, rate in values)


def smoke() -> Recipe:
    """`mini` cut down to seconds: a few scenes and steps, for tests."""
    base = mini()
    worlds = Worlds(nuscenes=smoke_world("nuscenes"), semkitti=smoke_world("kitti"), kitti=smoke_world("kitti-object"))
    size = {"height": 56, "width": 96}
    few = {"steps": 2, "batch": 1}
    tune = {**few, "labels": "2-frames"}
    bev = base.pretrain.bev
    assert bev is not None
    return base.with_(
        world=worlds,
        frames=base.frames.with_(depth_height=14, depth_width=24),
        images=base.images.with_(**size),
        superpixels=base.superpixels.with_(**size, segments=40),
        features=base.features.with_(**size),
        pretrain=base.pretrain.with_(**few, **size, bev=bev.with_(cells=256)),
        finetune=AllFinetunes(
            nuscenes=base.finetune.nuscenes.with_(**tune),
            semkitti=base.finetune.semkitti.with_(**tune),
            kitti=base.finetune.kitti.with_(**tune),
        ),
        probe=Finetunes(nuscenes=base.probe.nuscenes.with_(**few), semkitti=base.probe.semkitti.with_(**few)),
        table=TableRecipe(seeds=(0,)),
        by_labels=LabelFractions(),
        study=StudyRecipe(seeds=1, few_seeds=1, rates=(1.0,)),
        kitti_images=WideImages(height=40, width=128, stored_height=40, stored_width=128),
    )


def _worlds() -> Worlds:
    return Worlds(nuscenes=mini_world("nuscenes"), semkitti=mini_world("kitti"), kitti=mini_world("kitti-object"))


RECIPES = {"paper": paper, "mini": mini, "smoke": smoke}


# The encoder of the recipe's detector, and the head that collapses its features on the ground grid in pre-training.
VOXELNETS = {
    "paper": (KITTI_VOXELNET, PAPER_VOXELNET_BEV_HEAD),
    "mini": (SMALL_VOXELNET, SMALL_BEV_HEAD),
    "smoke": (SMALL_VOXELNET, SMALL_BEV_HEAD),
}


def load(
    name: str,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    dataset: DatasetName = "nuscenes",
    student: StudentKind = "unet",
    tunes: bool = False,
) -> Recipe:
    """The recipe `name` for a data set and a student, with a TOML file and `--set` assignments laid on top.

    Where it `tunes`, fine-tuning on the data set is as the recipe has it for the labelled share, where nothing laid on
    top says otherwise.

    Raises:
        UsageError: an unknown recipe, key or value.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}", hint=f"valid: {', '.join(RECIPES)}")
    base = for_data_set(RECIPES[name](), dataset)
    if student == "voxelnet":
        base = with_voxelnet(base, *VOXELNETS[name])
    over = _by_stage(merge(read_toml(file) if file else {}, parse_set(assignments)))
    recipe = _laid(_without_own(base, over), over)
    if not tunes:
        return recipe
    share = getattr(recipe.finetune, dataset).labels
    tuned = recipe.finetune.with_(**{dataset: for_labels(recipe, dataset, share)})
    return _laid(recipe.with_(finetune=tuned), over)


def _without_own(base: Recipe, over: Tree) -> Recipe:
    """`base` without the steps and rates that some shares and tables have of their own, where `over` gives some.

    What `finetune.<data set>` says of them is meant for all shares; `over` may still give each its own.
    """
    finetune = over.get("finetune")
    given = finetune if isinstance(finetune, dict) else {}
    for dataset in LabelFractions.model_fields:
        names = set(given[dataset]) if isinstance(given.get(dataset), dict) else set()
        usual: dict[str, Any] = {"steps": None} if names & {"steps", "epochs"} else {}
        if names & {"optimizer", "head_lr"}:
            usual["rate"] = 1.0
        shares = tuple(share.with_(**usual) for share in getattr(base.by_labels, dataset))
        base = base.with_(by_labels=base.by_labels.with_(**{dataset: shares}))
        if dataset == "semkitti" and "steps" in usual:
            base = base.with_(table=base.table.with_(semkitti_steps=None))
    return base


def _laid(base: Recipe, over: Tree) -> Recipe:
    return parse(Recipe, _lay(base.model_dump(), over)) if over else base


# Where the recipe keeps a stage's configuration, if not under the stage's own name.
_PLACES = {
    "finetune-detection": ("finetune", "kitti"),
    "eval-detection": ("eval_detection",),
    "export-features": ("export_features",),
}


def _by_stage(over: Tree) -> Tree:
    """`over` with what is under a stage's name moved to where the recipe keeps it."""
    out = {name: value for name, value in over.items() if name not in _PLACES}
    for stage in _PLACES.keys() & over.keys():
        moved = over[stage]
        for name in reversed(_PLACES[stage]):
            moved = {name: moved}
        out = merge(out, moved)
    return out


def _lay(base: Tree, over: Mapping[str, Any]) -> Tree:
    """`merge`, but another `kind` replaces the whole table, and `steps` and `epochs` displace each other."""
    if "kind" in over and over["kind"] != base.get("kind"):
        return dict(over)
    out = dict(base)
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if one in over and other not in over and other in out:
            out[other] = None
    for key, value in over.items():
        old = out.get(key)
        out[key] = _lay(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return out
