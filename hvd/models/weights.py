"""Weights from files: read without running code, mapped by key layout, and refused unless they fit the network."""

import argparse
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hvd.errors import InputError
from hvd.models.teacher_config import checked_sha256, like_weights

State = dict[str, Tensor]


class Layout(NamedTuple):
    """Where a kind of checkpoint keeps its ResNet."""

    name: str
    container: str  # the entry that holds the tensors; "" = the file itself
    prefix: str  # before torchvision's names


# Published key layouts, the first that fits wins; each is a fact about those files, tested on files of the same layout.
RESNET_LAYOUTS = (
    Layout("moco_v2", "state_dict", "module.encoder_q."),
    Layout("dino", "teacher", "module.backbone."),
    Layout("dino", "teacher", "backbone."),
    Layout("swav", "state_dict", "module."),
    Layout("swav", "", "module."),
    Layout("torchvision", "state_dict", ""),
    Layout("torchvision", "", ""),  # DINO publishes its bare backbone like this too
)
_FIRST_KEY = "conv1.weight"

# What training checkpoints keep beside tensors, all of it plain data. DINO's have their command line in a Namespace;
# OpenPCDet's have learning rates that are NumPy's numbers, under its old name of a module or its new one.
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.dtype(np.float64)),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]

# What torch's restricted unpickler raises on damaged bytes: found by fuzzing, as tests/models/test_weights.py does, and
# the last two that an absurd size can lead to.
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
)


def load_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """A checkpoint's content: safetensors, or a pickle of which only plain data is accepted.

    Raises:
        InputError: missing, empty, truncated, no checkpoint at all, or a pickle that asks to run code.
        CorruptError: its SHA-256 is not `sha256`.
    """
    like_weights(path)
    if sha256 is not None:
        checked_sha256(path, sha256)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, dict):
        raise InputError("not a checkpoint", where=path, why=f"it holds a {type(content).__name__}, not named tensors")
    return content


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError("cannot read the weights file", where=path, why=_first_line(error)) from None


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on damaged files it warns of odd pickle protocols before it fails
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError("cannot read the weights file", where=path, why=error.strerror or str(error)) from None
    except _UNREADABLE as error:
        raise InputError("cannot read the weights file", where=path, why=_reason(error)) from None


def _reason(error: BaseException) -> str:
    if "Unsupported" in str(error):  # a whole pickle, in a zip or bare
        return "it holds more than plain tensors, which could run code on loading"
    detail = "" if isinstance(error, pickle.UnpicklingError) else f": {_first_line(error)}"
    return f"truncated or no checkpoint{detail}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 120 else line[:117] + "..."


def resnet_state(content: Mapping[str, Any], source: Path) -> tuple[State, str]:
    """The ResNet inside a checkpoint under torchvision's names, and the name of the layout that fitted.

    Raises:
        InputError: no known layout fits; the message shows the first keys.
    """
    for layout in RESNET_LAYOUTS:
        tensors = content.get(layout.container) if layout.container else content
        if isinstance(tensors, Mapping) and layout.prefix + _FIRST_KEY in tensors:
            return tensors_under(tensors, layout.prefix), layout.name
    known = ", ".join(dict.fromkeys(layout.name for layout in RESNET_LAYOUTS))
    why = f"its keys begin {', '.join(map(str, list(content)[:4]))}"
    raise InputError("no ResNet in the checkpoint", where=source, why=why, hint=f"known layouts: {known}")


def tensors_under(tensors: Mapping[str, Any], prefix: str) -> State:
    """The tensors whose key starts with `prefix`, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if isinstance(key, str) and key.startswith(prefix) and isinstance(value, Tensor)
    }


class MatchReport(NamedTuple):
    """How a file's keys meet a network's."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the network, not in the file
    wrong_shape: tuple[str, ...]
    unexpected: tuple[str, ...]  # in the file, not in the network

    @property
    def complete(self) -> bool:
        """Every tensor of the network comes from the file."""
        return not self.missing and not self.wrong_shape

    def __str__(self) -> str:
        found = [f"{name} {len(keys)}: {_some(keys)}" for name, keys in self._differences() if keys]
        return "; ".join([self.summary, *found])

    @property
    def summary(self) -> str:
        """How many of the network's tensors the file has."""
        return f"matched {len(self.matched)} of {len(self.matched) + len(self.missing) + len(self.wrong_shape)}"

    def rows(self) -> list[tuple[str, str, str]]:
        """The report as a table."""
        counted = [
            (name, str(len(keys)), _some(keys)) for name, keys in (("matched", self.matched), *self._differences())
        ]
        return [("tensors", "count", "such as"), *counted]

    def _differences(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ("missing", self.missing), ("wrong shape", self.wrong_shape), ("unexpected", self.unexpected)


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def match_report(module: nn.Module, state: Mapping[str, Tensor]) -> MatchReport:
    """Compare `state` with what `module` needs; batch norm's step counters, which older files lack, are not needed."""
    wanted = {k: v.shape for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    return MatchReport(
        matched=tuple(k for k, shape in wanted.items() if k in state and state[k].shape == shape),
        missing=tuple(k for k in wanted if k not in state),
        wrong_shape=tuple(k for k, shape in wanted.items() if k in state and state[k].shape != shape),
        unexpected=tuple(k for k in state if k not in wanted and not k.endswith("num_batches_tracked")),
    )


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> MatchReport:
    """Copy `state` into `module`, all or nothing.

    Raises:
        InputError: a tensor of the network is missing or has another shape; the match report is its table.
    """
    report = match_report(module, state)
    if not report.complete:
        raise InputError("these weights are of another network", where=source, why=report.summary, rows=report.rows())
    module.load_state_dict({k: state[k] for k in report.matched}, strict=False)
    return report


def load_student(module: nn.Module, path: Path, sha256: str | None = None) -> MatchReport:
    """Fill a student backbone from a file whose keys are the module's own, or those after "backbone.".

    Raises:
        InputError: unreadable, or of another network.
        CorruptError: its SHA-256 is not `sha256`.
    """
    content = load_checkpoint(path, sha256)
    state = tensors_under(content, "backbone.") or tensors_under(content, "")
    return load_into(module, state, path)
