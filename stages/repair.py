"""Repair: make a damaged artifact anew from what its manifest says it was made of. Torch-free, as planning is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.artifact import Artifact
from cache.difference import difference
from cache.store import Store
from hvd.config import Config, parse
from hvd.datasets.fingerprint import Part
from hvd.errors import InputError, UsageError
from hvd.models.teacher_config import TeacherConfig, bundled_path
from hvd.world.config import WorldConfig
from stages import specs, training_specs
from stages.graph import Data, File, Node, Step, Stored
from stages.runner import Runner
from stages.runtime import Runtime

DATA_INPUTS = ("data", "label_files")  # the inputs that are data sets
CONFIGS: dict[str, type[Config]] = {
    "world": WorldConfig,
    "frames": specs.FramesConfig,
    "labels": specs.LabelsConfig,
    "images": specs.ImagesConfig,
    "superpixels": specs.SuperpixelsConfig,
    "features": specs.FeaturesConfig,
    "pretrain": training_specs.PretrainConfig,
    "finetune": training_specs.FinetuneConfig,
    "eval": specs.EvalConfig,
    "boxes": specs.BoxesConfig,
    "finetune-detection": training_specs.DetectFinetuneConfig,
    "eval-detection": specs.DetectEvalConfig,
    "export": specs.ExportConfig,
    "export-features": specs.ExportFeaturesConfig,
    "table": specs.TableConfig,
}


def repair(store: Store, item: Artifact) -> Artifact:
    """Compute `item`, and nothing else, anew; the damaged one stays until the new one is complete.

    Raises:
        InputError: what it was made from is gone or has changed, or this version makes something else of it.
        HvdError, StoreError: as its stage.
    """
    step = step_of(store, item)
    device = "cpu" if item.details["device"] == "cpu" else "auto"  # its GPU may be another machine's
    runner = Runner(store, Runtime(device=device, recipe=item.details["recipe"]))
    changes = difference(item.key_inputs, runner.inputs.of_key(step))
    if changes:
        raise _beyond(item, "changed since: " + ", ".join(name for name, _, _ in changes))
    return runner.repair(step, item).artifact


def children(store: Store, item: Artifact) -> list[Artifact]:
    """What was made from `item` directly."""
    return [other for other in store.artifacts() if any(parent["key"] == item.key for parent in other.parents)]


def step_of(store: Store, item: Artifact) -> Step:
    """The step that made `item`, rebuilt from its manifest; raises InputError where that can't be."""
    stage = specs.STAGES.get(item.stage)
    if stage is None:
        raise _beyond(item, "this version has no such stage")
    for name, path in item.details["sources"].items():
        if not Path(path).exists():
            raise _beyond(item, f"its {name} is gone: {path}")
    try:
        config = _with_weights(parse(CONFIGS[item.stage], item.key_inputs["config"]), _teacher_file(store, item))
    except UsageError as error:
        raise _beyond(item, str(error)) from None
    inputs = {parent["name"]: _stored(parent, config, stage) for parent in item.parents}
    hashed = item.details.get("full_hash", ())
    for name, path in item.details["sources"].items():
        node = _source(name, Path(path), config, stage)
        inputs[name] = replace(node, full_hash=name in hashed) if isinstance(node, Data) else node
    return Step(stage, config, tuple(inputs.items()))


def _beyond(item: Artifact, why: str) -> InputError:
    hint = "bring back what it was made from, or delete the folder and run the command that made it"
    return InputError(f"cannot repair {item.stage} {item.key[:8]}", where=item.path, why=why, hint=hint)


def _stored(parent: dict[str, str], config: Any, stage: specs.Stage) -> Node:
    found = Stored(parent["stage"], parent["key"])
    return _data(parent["name"], config, stage, world=found) if parent["name"] in DATA_INPUTS else found


def _source(name: str, path: Path, config: Any, stage: specs.Stage) -> Node:
    return _data(name, config, stage, root=path) if name in DATA_INPUTS else File(path)


def _data(name: str, config: Any, stage: specs.Stage, root: Path | None = None, world: Stored | None = None) -> Data:
    part: Part = "labels" if stage == specs.LABELS or name == "label_files" else "frames"
    return Data(config.dataset, getattr(config, "version", None), part, root, world)


def _teacher_file(store: Store, item: Artifact) -> str | None:
    """The path of the teacher's weights that `item`, or the features it was made from, were computed with."""
    sources = dict(item.details["sources"])
    for parent in item.parents:
        features = store.find(parent["stage"], parent["key"]) if parent["stage"] == "features" else None
        sources |= features.details["sources"] if features else {}
    return sources.get("teacher")


def _with_weights(config: Config, path: str | None) -> Config:
    """A config with the path that is no part of a key and yet is named in results; the bundled weights have none."""
    teacher = getattr(config, "teacher", None)
    if path is None or not isinstance(teacher, TeacherConfig) or Path(path) == bundled_path():
        return config
    return config.with_(teacher=teacher.with_(weights=path))
