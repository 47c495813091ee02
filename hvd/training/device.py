"""Which device a stage runs on."""

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from hvd.errors import ResourceError

Batch = TypeVar("Batch", bound=Any)  # a frozen dataclass


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one, else the CPU; the others are torch's: cpu, cuda, cuda:N.

    Raises:
        ResourceError: a GPU was asked for and there is none, or none of that number.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ResourceError("no GPU that torch can use", hint="leave --device away to run on the CPU")
    if device.index is not None and device.type == "cuda":
        count = torch.cuda.device_count()
        if device.index >= count:
            raise ResourceError(f"no GPU number {device.index}", why=f"torch sees {count}, from cuda:0 on")
        torch.cuda.set_device(device)  # spconv launches on the current GPU, whatever its tensors lie on
    return device


def moved(batch: Batch, device: torch.device) -> Batch:
    """The same batch with its tensors on `device`."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
