"""The student on disk: one safetensors file that carries its own configuration."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

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
    # At most one entry: safetensors writes several in no fixed order, and the file's bytes enter keys.
    write_tensors(path, module.state_dict(), metadata or None)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: the disk is full or fails; safetensors' own writer would raise an error without a number.
    """
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)
    try:
        path.write_bytes(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


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
