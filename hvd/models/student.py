"""The student on disk: one safetensors file that carries its own configuration."""

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from hvd.errors import InputError
from hvd.models.config import UNetConfig
from hvd.models.unet import SparseUNet
from hvd.models.weights import load_student

FILE = "student.safetensors"
HEAD_FILE = "head.safetensors"


def save_student(path: Path, student: SparseUNet, config: UNetConfig) -> None:
    """Write the backbone's weights with `config` in the file's metadata."""
    _save(path, student, {"config": json.dumps(config.resolved())})


def save_head(path: Path, head: nn.Module) -> None:
    """Write a head's weights."""
    _save(path, head, {})


def _save(path: Path, module: nn.Module, metadata: dict[str, str]) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    # At most one entry: safetensors writes several in no fixed order, and the file's bytes enter keys.
    save_file(state, path, metadata=metadata or None)


def student_file(place: Path) -> Path:
    """The weights file of an artifact's folder; a file stands for itself."""
    return place / FILE if place.is_dir() else place


def read_config(path: Path) -> UNetConfig | None:
    """The configuration a student file carries; None for files that other programs wrote.

    Raises:
        InputError: unreadable, or a configuration that is not ours.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
        return None if text is None else UNetConfig.model_validate_json(text)
    except (OSError, SafetensorError, ValidationError) as error:
        raise InputError("cannot read the student", where=path, why=str(error).splitlines()[0]) from None


def load_backbone(place: Path, config: UNetConfig, device: torch.device) -> SparseUNet:
    """The student at `place` (an artifact's folder or a weights file), built as `config`.

    Raises:
        InputError: unreadable, or of another shape than `config`.
    """
    path = student_file(place)
    found = read_config(path)
    if found is not None and found != config:
        changed = [name for name in UNetConfig.model_fields if getattr(found, name) != getattr(config, name)]
        raise InputError(
            "the student was built with another configuration",
            where=path,
            why=", ".join(f"{n} {getattr(found, n)} there, {getattr(config, n)} here" for n in changed),
            hint="use the recipe it was trained with",
        )
    student = SparseUNet(config)
    load_student(student, path)
    return student.to(device)
