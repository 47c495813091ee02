"""The student: built from its configuration, and on disk as one safetensors file that carries it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hvd import log
from hvd.errors import InputError
from hvd.models.config import STUDENT_CONFIGS, UNetConfig, require_kind
from hvd.models.detector_config import VoxelNetConfig
from hvd.models.openpcdet import from_openpcdet, is_openpcdet
from hvd.models.unet import SparseUNet
from hvd.models.voxelnet import VoxelNet
from hvd.models.weights import load_checkpoint, load_into, load_student

FILE = "student.safetensors"
HEAD_FILE = "head.safetensors"
# Weights fit any: a convolution looks around itself alone, the momentum is of this training, not of the one before, and
# what pre-training read at the points is nothing to a detector.
_NOT_IN_WEIGHTS = {"range_min_m", "range_max_m", "norm_momentum", "read"}


@overload
def build_student(config: UNetConfig) -> SparseUNet: ...
@overload
def build_student(config: VoxelNetConfig) -> VoxelNet: ...
def build_student(config: UNetConfig | VoxelNetConfig) -> SparseUNet | VoxelNet:
    """A new network of that kind: voxel features (V, config.feature_channels) from what its voxelizer gives."""
    return VoxelNet(config) if isinstance(config, VoxelNetConfig) else SparseUNet(config)


def save_student(path: Path, student: nn.Module, config: UNetConfig | VoxelNetConfig) -> None:
    """Write the backbone's weights with `config` in the file's metadata; without a kind, it is a U-Net's."""
    kind = {} if isinstance(config, UNetConfig) else {"kind": config.kind}
    _save(path, student, {"config": json.dumps({**kind, **config.resolved()})})


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


def read_config(path: Path) -> UNetConfig | VoxelNetConfig | None:
    """The configuration a student file carries; None for files that other programs wrote.

    Raises:
        InputError: unreadable, or a configuration that is not ours.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
        return None if text is None else _parse(text)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError("cannot read the student", where=path, why=str(error).splitlines()[0]) from None


def _parse(text: str) -> UNetConfig | VoxelNetConfig:
    """A configuration as `save_student` writes it.

    Raises:
        ValueError: it is none.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("its configuration is no table")
    kind = str(values.pop("kind", UNetConfig.kind))
    if kind not in STUDENT_CONFIGS:
        raise ValueError(f"it holds a network of an unknown kind: {kind[:60]!r}")
    return STUDENT_CONFIGS[kind].model_validate(values)


@overload
def load_backbone(place: Path, config: UNetConfig, device: torch.device) -> SparseUNet: ...
@overload
def load_backbone(place: Path, config: VoxelNetConfig, device: torch.device) -> VoxelNet: ...
def load_backbone(place: Path, config: UNetConfig | VoxelNetConfig, device: torch.device) -> SparseUNet | VoxelNet:
    """The student at `place` (an artifact's folder or a weights file, ours or OpenPCDet's), built as `config`.

    A VoxelNet's range may differ: one that was pre-trained all around the sensor becomes a detector's of the front.

    Raises:
        InputError: unreadable, another kind of network, or of another shape than `config`.
    """
    path = student_file(place)
    found = read_config(path)
    if found is not None:
        _check_same(found, config, path)
    student = build_student(config)
    if isinstance(student, VoxelNet) and is_openpcdet(content := load_checkpoint(path)):
        report = load_into(student, from_openpcdet(content, path), path)
    else:
        report = load_student(student, path)
    if path == place:
        log.info(f"weights of {path}: {report.summary} tensors")
    return student.to(device)


def _check_same(found: UNetConfig | VoxelNetConfig, config: UNetConfig | VoxelNetConfig, path: Path) -> None:
    require_kind(found.kind, config.kind, path)
    names = [name for name in type(config).model_fields if name not in _NOT_IN_WEIGHTS]
    changed = [name for name in names if getattr(found, name) != getattr(config, name)]
    if changed:
        raise InputError(
            "the student was built with another configuration",
            where=path,
            why=", ".join(f"{n} {getattr(found, n)} there, {getattr(config, n)} here" for n in changed),
            hint="use the recipe it was trained with",
        )
