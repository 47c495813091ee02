"""A detector on disk: one safetensors file that carries its own configuration; and a pre-trained encoder for it."""

import json
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from hvd.config import Config
from hvd.errors import InputError
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import DetectorConfig, VoxelNetConfig
from hvd.models.student import student_file, write_tensors
from hvd.models.voxelnet import VoxelNet
from hvd.models.weights import load_checkpoint, load_into, load_student

FILE = "detector.safetensors"

C = TypeVar("C", bound=Config)
_RANGE = ("range_min_m", "range_max_m")


def save_detector(folder: Path, detector: CentreDetector) -> None:
    """Write a detector's weights with its configuration in the file's metadata."""
    write_tensors(folder / FILE, detector.state_dict(), {"config": json.dumps(detector.config.resolved())})


def load_detector(folder: Path, device: torch.device) -> CentreDetector:
    """The detector of an artifact's folder, in eval mode.

    Raises:
        InputError: unreadable, or its weights don't fit its configuration.
    """
    path = folder / FILE
    config = _read_config(path, DetectorConfig)
    if config is None:
        raise InputError("no detector", where=path, why="the file carries no configuration")
    detector = CentreDetector(config)
    load_into(detector, load_checkpoint(path), path)
    return detector.to(device).eval()


def load_voxelnet(place: Path, config: VoxelNetConfig, device: torch.device) -> VoxelNet:
    """The pre-trained encoder at `place` (an artifact's folder or a weights file), built as `config`.

    Its range may be another one: no weight depends on it.

    Raises:
        InputError: unreadable, no VoxelNet, or of another shape than `config`.
    """
    path = student_file(place)
    found = _read_config(path, VoxelNetConfig) if path.suffix == ".safetensors" else None
    if found is not None:
        _require_alike(found, config, path)
    student = VoxelNet(config)
    load_student(student, path)
    return student.to(device)


def _require_alike(found: VoxelNetConfig, config: VoxelNetConfig, path: Path) -> None:
    names = [name for name in VoxelNetConfig.model_fields if name not in _RANGE]
    changed = [name for name in names if getattr(found, name) != getattr(config, name)]
    if changed:
        raise InputError(
            "the student was built with another configuration",
            where=path,
            why=", ".join(f"{n} {getattr(found, n)} there, {getattr(config, n)} here" for n in changed),
            hint="use the recipe it was trained with",
        )


def _read_config(path: Path, kind: type[C]) -> C | None:
    """The configuration a weights file carries; None for files that other programs wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
        return None if text is None else kind.model_validate_json(text)
    except (OSError, SafetensorError) as error:
        raise InputError("cannot read the weights file", where=path, why=str(error).splitlines()[0]) from None
    except ValidationError as error:
        why = str(error).splitlines()[0]
        raise InputError(f"no {kind.__name__.removesuffix('Config')}", where=path, why=why) from None
