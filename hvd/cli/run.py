"""`hvd prep | pretrain | finetune | eval | export`: one short function each, from options to steps to a summary."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.errors import free_bytes, readable_bytes
from hvd import log
from hvd.cli.options import Common, Root, Version, check_folder, data_set_at, emit, stage_command
from hvd.cli.scores import print_scores
from hvd.cli.summary import summary
from hvd.cli.tables import print_table
from hvd.errors import InputError, UsageError

if TYPE_CHECKING:
    from hvd.models.config import StudentKind
    from stages.graph import Node, Step, Stored
    from stages.planning import Status
    from stages.plans import Source
    from stages.runner import Runner
    from stages.specs import DetectEvalConfig, EvalConfig

Split = Annotated[str | None, typer.Option(help="train, val or all.")]
FromStudent = Annotated[
    str | None, typer.Option("--from", help="Student: artifact key or weights file; default: the newest.")
]


def register(app: typer.Typer) -> None:
    """Add the stage commands to `app`."""
    app.command()(stage_command(prep))
    app.command()(stage_command(pretrain, trains=True))
    app.command()(stage_command(finetune, trains=True))
    app.command(name="eval")(stage_command(evaluate))
    app.command()(stage_command(export))


def prep(
    common: Common,
    dataset: Annotated[str, typer.Argument(help="nuscenes, semkitti or kitti")],
    root: Root = None,
    version: Version = None,
) -> None:
    """Prepare a data set: projections, labels, images, superpixels, teacher features."""
    from hvd.datasets.fingerprint import has_labels
    from stages import plans

    source = common.source(dataset, root, version)
    labelled = source.root is None or has_labels(source.root, source.dataset, source.full_version)
    if not labelled:
        log.warn(f"{source} has no labels: preparing the rest")
    execute(common, plans.prep(common.load(source), source, labelled), source)


def pretrain(
    common: Common,
    views: Annotated[str | None, typer.Option(help="ipv, bev or ipv,bev.")] = None,
    student: Annotated[str, typer.Option(help="unet (for segmentation) or voxelnet (for detection).")] = "unet",
    dataset: Annotated[str, typer.Option(help="Data set with cameras: nuscenes or kitti.")] = "nuscenes",
    root: Root = None,
    version: Version = None,
) -> None:
    """Distil the frozen image network into a LiDAR student, without labels."""
    from stages import plans

    source = common.source(dataset, root, version)
    if source.dataset not in plans.WITH_CAMERAS:
        hint = f"use --dataset {' or '.join(plans.WITH_CAMERAS)}"
        raise UsageError(f"pre-training needs cameras, and {dataset} is read without", hint=hint)
    if student not in ("unet", "voxelnet"):
        raise UsageError(f"unknown student {student!r}", hint="valid: unet, voxelnet")
    recipe = common.load(source, student=student)  # type: ignore[arg-type]  # checked just above
    changes = {"views": views, "seed": common.seed}
    config = recipe.pretrain.with_(**{k: v for k, v in changes.items() if v is not None})
    execute(common, (plans.pretrain(recipe, source, config),), source)


def finetune(
    common: Common,
    dataset: Annotated[str, typer.Argument(help="nuscenes, semkitti or kitti")],
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labelled share (of scenes on nuscenes, else of frames) or count: 1%, 12-frames; "
            "default: the recipe's, 1%, on kitti 5%."
        ),
    ] = None,
    label_offset: Annotated[int | None, typer.Option(help="Shift of the labelled items.")] = None,
    linear_probe: Annotated[bool, typer.Option("--linear-probe", help="Train the head alone.")] = False,
    from_: Annotated[
        str | None, typer.Option("--from", help="Student: artifact key, weights file, or scratch; default: the newest.")
    ] = None,
    split: Split = None,
    root: Root = None,
    version: Version = None,
) -> None:
    """Fine-tune with few labels: semantic segmentation, or on kitti 3D detection."""
    from hvd.datasets.splits import LabelBudget
    from stages import plans

    if labels is not None:
        LabelBudget.parse(labels)  # before anything is read
    if dataset == "kitti" and linear_probe:
        raise UsageError("a detector has no linear probe", hint="leave --linear-probe away")
    source = common.source(dataset, root, version)
    refuse_unread(common.set_ or (), linear_probe)
    if labels is not None and not linear_probe:
        share = f"finetune.{dataset}.labels={labels}"
        common = replace(common, set_=[*(common.set_ or ()), share])
    recipe = common.load(source, tunes=not linear_probe)
    base = getattr(recipe.probe if linear_probe else recipe.finetune, source.dataset)
    changes = {"labels": labels, "label_offset": label_offset, "split": split, "seed": common.seed}
    config = base.with_(**{k: v for k, v in changes.items() if v is not None})
    runner = common.runner(source)
    kind: StudentKind = "voxelnet" if source.dataset == "kitti" else "unet"
    student = None if from_ == "scratch" else find_student(runner, from_, source, kind)
    execute(common, (plans.finetune(recipe, source, config, student),), source, runner)


def refuse_unread(assignments: Sequence[str], linear_probe: bool) -> None:
    """Raises UsageError for a setting of fine-tuning in a linear probe, or the other way round: it would do nothing."""
    unread, read = ("finetune", "probe") if linear_probe else ("probe", "finetune")
    for assignment in assignments:
        if assignment.partition(".")[0].strip() == unread:
            why = f"{'with' if linear_probe else 'without'} --linear-probe it is {read}.* that is read"
            raise UsageError(f"--set {assignment} does nothing here", why=why)


def evaluate(
    common: Common,
    dataset: Annotated[str, typer.Argument(help="nuscenes, semkitti or kitti")],
    from_: Annotated[
        str | None, typer.Option("--from", help="Fine-tuned model: artifact key; default: the newest.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, all, or test: predictions alone.")] = None,
    predictions: Annotated[bool, typer.Option("--predictions", help="Write files in the benchmark's layout.")] = False,
    root: Root = None,
    version: Version = None,
) -> None:
    """Evaluate a fine-tuned model as the benchmark does: mIoU, or on kitti average precision."""
    from hvd.datasets.fingerprint import KITTI_TEST
    from stages import plans

    is_kitti_test = (dataset, split) == ("kitti", "test")  # numbered as training/ is: a data set of its own
    source = common.source(dataset, root, KITTI_TEST if is_kitti_test else version)
    recipe = common.load(source)
    runner = common.runner(source)
    model = find_model(runner, from_, source)
    changes: dict[str, Any] = {} if split is None else {"split": split}
    config: EvalConfig | DetectEvalConfig = recipe.eval
    if source.dataset == "kitti":
        config = recipe.eval_detection  # which always writes the benchmark's files
    elif predictions or split == "test":
        changes["predictions"] = True
    step = plans.evaluate(recipe, source, config.with_(**changes), model)
    execute(common, (step,), source, runner)
    if not (common.dry_run or common.json_):
        print_scores(runner.done[step].artifact)


def export(
    common: Common,
    what: Annotated[str, typer.Argument(help="student (weights) or features (HDF5)")] = "student",
    from_: FromStudent = None,
    dataset: Annotated[
        str | None, typer.Option(help="nuscenes, semkitti or kitti; default: what the root looks like, else nuscenes.")
    ] = None,
    split: Split = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Of the weights: safetensors, or openpcdet (a VoxelNet's alone).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the result into this folder.")] = None,
    root: Root = None,
    version: Version = None,
) -> None:
    """Export the student as safetensors with a model card, or its per-point features as HDF5."""
    from stages import plans

    if what not in ("student", "features"):
        raise UsageError(f"cannot export {what!r}", hint="valid: student, features")
    if out is not None:
        check_folder(out)
    if what == "features" and format_ is not None:
        raise UsageError("--format is of weights; features are HDF5", hint="leave it out")
    if what == "student" and split is not None:
        raise UsageError("--split is of features; a student has no frames", hint="leave it out")
    source = common.source(dataset or (data_set_at(root) if root else "nuscenes"), root, version)
    recipe = common.load(source) if what == "features" else common.load_quietly(source)
    runner = common.runner(source)
    if what == "student":
        weights = recipe.export.with_(format=format_ or recipe.export.format)
        needed: StudentKind | None = "voxelnet" if weights.format == "openpcdet" else None
        step = plans.export(weights, find_student(runner, from_, None, needed))  # whatever it was trained on
    else:
        config = recipe.export_features.with_(dataset=source.dataset, split=split or recipe.export_features.split)
        step = plans.export_features(recipe, source, config, find_student(runner, from_, source))
    execute(common, (step,), source, runner)
    if out is not None and not common.dry_run:
        runner.copy(step, out)
        log.info(f"copied to {out}")


def find_student(
    runner: "Runner", given: str | None, source: "Source | None", kind: "StudentKind | None" = None
) -> "Node":
    """The pre-trained student named by `given` (key or path), or the newest of the runner's recipe.

    Args:
        source: what it is to be used on; None where that is open.
        kind: that it must be, None for any; a weights file is opened only when it is loaded.

    Raises:
        InputError: there is none, the file is no checkpoint, or it would mix real data and the built-in world unasked.
    """
    from hvd.models.teacher_config import like_weights
    from stages.graph import File

    if given is not None and (Path(given).exists() or "/" in given or "." in given):
        if not Path(given).is_file():
            raise InputError("no such weights file", where=given)
        return File(like_weights(Path(given)))
    hint = "run: hvd pretrain --student voxelnet" if kind == "voxelnet" else "run: hvd pretrain"
    return _stored(runner, "pretrain", given, source, hint, kind=kind)


def find_model(runner: "Runner", given: str | None, source: "Source") -> "Stored":
    """The fine-tuned model named by `given`, or the newest one of the data set and recipe; raises as `find_student`."""
    hint = f"run: hvd finetune {source.dataset}"
    stage = "finetune-detection" if source.dataset == "kitti" else "finetune"
    return _stored(runner, stage, given, source, hint=hint, dataset=source.dataset)


def _stored(
    runner: "Runner",
    stage: str,
    given: str | None,
    source: "Source | None",
    hint: str,
    dataset: str | None = None,
    kind: "StudentKind | None" = None,
) -> "Stored":
    from hvd.models.config import STUDENT_CONFIGS
    from stages import choice
    from stages.graph import Stored

    if given is not None:
        found = choice.by_key(runner.store, stage, given, kind)
        return Stored(found.stage, found.key)
    recipe = runner.runtime.recipe
    real = None if source is None else source.root is not None
    latest = choice.newest(runner.store, stage, recipe, dataset, kind, real)
    if latest is None:
        what = f"{stage} artifact" if kind is None else f"{stage} artifact of a {STUDENT_CONFIGS[kind].title}"
        recipes = choice.other_recipes(runner.store, stage, recipe, kind)
        others = f"the store has some of --recipe {', '.join(recipes)}" if recipes else ""
        remedy = hint + _same_options(recipe, source, dataset)
        raise InputError(f"no {what} of recipe {recipe} in the store", why=others, hint=remedy)
    places = ", ".join(sorted(set(latest.details["data"].values())))
    what = ", ".join(filter(None, (summary(latest), f"of {places or 'no data set'}")))
    log.info(f"from the newest: {stage} {latest.key[:8]}, {what}")
    if source is not None:
        world = "" if source.root else " --root world"
        remedy = hint + world + _same_options(recipe, source, dataset)
        choice.refuse_mixing(latest, str(source.root) if source.root else None, remedy)
    return Stored(latest.stage, latest.key)


def _same_options(recipe: str, source: "Source | None", dataset: str | None) -> str:
    """Options of the command that makes what is missing: the root, if it is of the same data set, and the recipe."""
    root = None if source is None else source.root
    usual = source is None or recipe == ("paper" if root else "mini")
    chosen = "" if usual else f" --recipe {recipe}"
    if not root:
        return chosen
    if dataset:
        return f" --root {shlex.quote(str(root))}{chosen}"
    # A student may come of other data than it is used on.
    return f" --root FOLDER{chosen}; FOLDER is one of nuScenes, or with --dataset kitti one of KITTI"


def execute(common: Common, steps: Sequence["Step"], source: "Source", runner: "Runner | None" = None) -> None:
    """Run `steps`, or show what they would do, and print the outcome of the last."""
    runner = runner or common.runner(source)
    if common.dry_run:
        show_plan(common, runner.status(tuple(steps)))
        return
    for step in steps:
        outcome = runner.run(step)
        if not common.json_:
            say(outcome)
    if common.json_:
        emit({**outcome.as_dict(), "artifacts": [o.as_dict() for o in runner.done.values()]})


def say(outcome: Any) -> None:
    """One line about an artifact, and its figures, those that there are: nothing scores a test part."""
    artifact = outcome.artifact
    done = "found" if outcome.state == "hit" else f"made in {outcome.seconds:.1f} s"
    log.info(f"{artifact.stage} {artifact.key[:8]}: {done}, {artifact.path}")
    for name, value in artifact.details["metrics"].items():
        if value not in (None, [], {}) and artifact.stage.partition("-")[0] in ("eval", "finetune", "pretrain"):
            log.info(f"  {name}{' (%)' if name in ('miou', 'by_range', 'map') else ''}: {value}")


def show_plan(common: Common, rows: Sequence["Status"]) -> None:
    """What each step would do, what that takes, and why."""
    if common.json_:
        emit([row.as_dict() for row in rows])
        return
    columns = ("state", "stage", "key", "frames", "steps", "size", "why")
    print_table(columns, [_plan_row(row) for row in rows])
    say_size(common, rows)


def say_size(common: Common, rows: Sequence["Status"]) -> None:
    """How many steps are to run, and what disk that takes."""
    left = [row for row in rows if row.state != "hit"]
    size_bytes = sum(row.cost.size_bytes or 0 for row in left)
    size = readable_bytes(size_bytes)
    free = readable_bytes(free_bytes(common.store))
    networks = sum(row.step.stage.name.startswith(("pretrain", "finetune")) for row in left)
    trained = f"{networks} network{'s' if networks > 1 else ''}" if networks else ""
    data = f"about {size} on disk before compression" if size_bytes or not networks else ""
    log.info(f"{len(left)} of {len(rows)} to run; {' and '.join(filter(None, (data, trained)))}, {free} free")


def _plan_row(row: "Status") -> tuple[object, ...]:
    frames, steps, size = row.cost
    shown = "" if size is None else readable_bytes(size)
    figures = ("" if frames is None else frames, "" if steps is None else steps, shown)
    return row.state, row.step.stage.name, (row.key or "")[:8], *figures, row.reason
