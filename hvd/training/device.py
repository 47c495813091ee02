"""Which device a stage runs on."""

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from hvd.errors import ResourceError, UsageError

Batch = TypeVar("Batch", bound=Any)  # a frozen dataclass


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one, else the CPU; any other name is torch's.

    Raises:
        ResourceError: a GPU was asked for and there is none.
        UsageError: no such kind of device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device {name!r}", hint="valid: auto, cpu, cuda, cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ResourceError("no GPU that torch can use", hint="leave --device away to run on the CPU")
    return device


def moved(batch: Batch, device: torch.device) -> Batch:
    """The same batch with its tensors on `device`."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)})
