"""The protocol line beside every result: data, split, labels, voxels, schedule, seed, threads, teacher.

Each training writes protocol.json into its artifact and carries on what its input says: a result can be read alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvd import log
from hvd.datasets.prepared import Frames
from hvd.models.config import UNetConfig
from stages.selection import scenes_of
from stages.specs import DetectEvalConfig, EvalConfig
from stages.training_specs import DetectFinetuneConfig, FinetuneConfig, PretrainConfig, Schedule

FILE = "protocol.json"


def pretraining(config: PretrainConfig, frames: Frames, num_frames: int) -> dict[str, Any]:
    """How a student was pre-trained."""
    return {
        "data": data_name(frames),
        "frames": num_frames,
        **_split(config),
        **_network(config),
        "views": views(config),
        "teacher": teacher_name(config),
        **_schedule(config),
    }


def _split(config: PretrainConfig | FinetuneConfig | DetectFinetuneConfig) -> dict[str, str]:
    """What was trained on; the training part goes without saying, so that what it made before keeps its bytes."""
    named = f"{config.splits} {config.split}"
    return {} if named == "paper train" else {"split": named}


def _network(config: PretrainConfig) -> dict[str, Any]:
    """The student's kind and voxels; a U-Net goes without saying, so that what it made before keeps its bytes."""
    student = config.student
    if isinstance(student, UNetConfig):
        return {}
    return {"network": student.title, "voxel_size_m": list(student.voxel_size_m)}


def views(config: PretrainConfig) -> str:
    """The views, with what makes one differ from the method."""
    names = []
    if config.ipv is not None:
        names.append("ppkt" if config.ipv.method == "ppkt" else "ipv")
    if config.bev is not None:
        odd = {"uniform": "uniform depth", "release": "the release's geometry", "measured": "measured pixels"}
        differs = [odd[value] for value in (config.bev.depth, config.bev.geometry, config.bev.lift) if value in odd]
        if config.bev.min_voxels is not None or config.bev.weigh_up_to is not None:
            differs.append("cells weighed by voxels")
        names.append(f"bev ({', '.join(differs)})" if differs else "bev")
    return "+".join(names) + (" without occluded points" if config.occlusion_filter else "")


def finetuning(
    config: FinetuneConfig, student: Path | None, frames: Frames, num_frames: int, unit: str
) -> dict[str, Any]:
    """How a model was fine-tuned, and the student it began from."""
    return {
        **_labelled(config, frames, num_frames, unit),
        "linear_probe": config.linear_probe,
        "voxel_size_m": config.student.voxel_size_m,
        "student": "random init" if student is None else read(student),
        **({"batch_norm": "re-estimated"} if config.reestimate_norm else {}),
        **_schedule(config),
    }


def detection(
    config: DetectFinetuneConfig, student: Path | None, frames: Frames, num_frames: int, unit: str
) -> dict[str, Any]:
    """How a detector was trained, and the encoder it began from."""
    return {
        **_labelled(config, frames, num_frames, unit),
        "voxel_size_m": config.detector.voxelnet.voxel_size_m,
        "sampling": config.sampling is not None,
        "student": "random init" if student is None else read(student),
        **_schedule(config),
    }


def _labelled(
    config: FinetuneConfig | DetectFinetuneConfig, frames: Frames, num_frames: int, unit: str
) -> dict[str, Any]:
    return {
        "data": data_name(frames),
        "labels": config.labels,
        "unit": unit,
        "offset": config.label_offset,
        "frames": num_frames,
        **_split(config),
    }


def _schedule(config: Schedule) -> dict[str, Any]:
    length = f"{config.steps} steps" if config.steps is not None else f"{config.epochs} epochs"
    return {"length": length, "batch": config.batch, "seed": config.seed, "threads": config.threads}


def teacher_name(config: PretrainConfig) -> str:
    """The teacher, and how it was trained as far as we know."""
    if config.teacher.untrained:
        return f"{config.teacher.name} (UNTRAINED)"
    if config.teacher.weights is None:
        return f"{config.teacher.name} (ImageNet labels: not self-supervised)"
    return f"{config.teacher.name} ({Path(config.teacher.weights).name})"


def data_name(frames: Frames) -> str:
    """The data set; results on the built-in world are always called so."""
    attributes = frames.attributes
    name = str(attributes["dataset"])
    if attributes["built_in_world"]:
        return f"built-in world, {name} rig"
    return f"{name} {attributes['version']}" if attributes["version"] else name


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """Store a protocol in an artifact."""
    (folder / FILE).write_text(json.dumps(values, indent=1), encoding="utf8")


def read(place: Path) -> dict[str, Any] | str:
    """The protocol of an artifact; a weights file from elsewhere has none, and its name stands for it."""
    path = place / FILE
    if not path.is_file():
        return f"weights {place.name}"
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return values


def evaluation(config: EvalConfig, inputs: Mapping[str, Path], frames: Frames, num_frames: int) -> str:
    """The line that every result prints."""
    model = read(inputs["model"])
    assert isinstance(model, dict), "a fine-tuned artifact carries its protocol"
    probe = "linear probe on" if model["linear_probe"] else "fine-tuned on"
    parts = [
        f"{data_name(frames)}, {config.splits} {config.split} ({num_frames} frames)",
        f"{probe} {_labels(model)} (offset {model['offset']}, {_frames(model)})",
        f"voxels {model['voxel_size_m']:g} m",
        f"{model['length']}, batch {model['batch']}, seed {model['seed']}, {model['threads']} threads",
        _student(model),
    ]
    return "; ".join(parts)


def detection_line(config: DetectEvalConfig, inputs: Mapping[str, Path], frames: Frames, num_frames: int) -> str:
    """The line of a detector's result."""
    model = read(inputs["model"])
    assert isinstance(model, dict), "a trained detector carries its protocol"
    voxels = " x ".join(f"{edge:g}" for edge in model["voxel_size_m"])
    parts = [
        f"{data_name(frames)}, {config.splits} {config.split} ({num_frames} frames)",
        f"detector trained on {_labels(model)} (offset {model['offset']}, {_frames(model)})",
        f"voxels {voxels} m",
        f"{model['length']}, batch {model['batch']}, seed {model['seed']}, {model['threads']} threads",
        _student(model),
    ]
    return "; ".join(parts)


def warn_of_known(config: EvalConfig | DetectEvalConfig, inputs: Mapping[str, Path], frames: Frames) -> None:
    """Say so where a model may have been labelled with what it is scored on: figures then tell what it remembers."""
    trained = read(inputs["model"])
    assert isinstance(trained, dict), "a trained model carries its protocol"
    of, scored = trained.get("split", "paper train"), f"{config.splits} {config.split}"
    both = [scenes_of(inputs["frames"], frames.scenes, *name.split()) for name in (of, scored)]
    if trained["data"] == data_name(frames) and set.intersection(*both):
        log.warn(
            f"scored on {scored}, and labelled with {trained['frames']} frames of {of}: it may have seen the answers"
        )


def _frames(trained: Mapping[str, Any]) -> str:
    split = f" of {trained['split']}" if "split" in trained else ""
    return f"{trained['frames']} frames{split}"


def _labels(model: Mapping[str, Any]) -> str:
    labels: str = model["labels"]
    return f"{labels} of {model['unit']}s" if labels.endswith("%") else labels


def _student(model: Mapping[str, Any]) -> str:
    student = model["student"]
    if isinstance(student, str):
        return student + (", batch norm re-estimated" if "batch_norm" in model else "")
    return student_line(student)


def student_line(student: Mapping[str, Any]) -> str:
    """How a student was pre-trained, in short: from its protocol."""
    edges = student.get("voxel_size_m")
    voxels = f" (voxels {' x '.join(f'{edge:g}' for edge in edges)} m)" if edges else ""
    return (
        f"student {student.get('network', UNetConfig.title)}{voxels} {student['views']} on {student['data']}"
        f" ({_frames(student)}, {student['length']}, batch {student['batch']}, seed {student['seed']}),"
        f" teacher {student['teacher']}"
    )
