"""The encoder's weights under OpenPCDet's names, in the layout of its `VoxelBackBone8x` on spconv 2.

There the axes run (z, y, x), and a kernel is (out, z, y, x, in); here (x, y, z), and (out, x, y, z, in).
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvd.errors import InputError
from hvd.models.weights import State, tensors_under

PREFIX = "backbone_3d."
CONTAINER = "model_state"  # the entry of OpenPCDet's checkpoints that holds the tensors
_PARTS = {"conv": "0", "norm": "1"}  # of a layer: its place in their Sequential
_OUR_PARTS = {place: part for part, place in _PARTS.items()}
_SWAP_AXES = (0, 3, 2, 1, 4)


def to_openpcdet(network: nn.Module) -> State:
    """The tensors of a VoxelNet under OpenPCDet's keys, on the CPU."""
    state = network.state_dict()
    return {PREFIX + _renamed(name, _PARTS): _swapped(value.detach().cpu()) for name, value in state.items()}


def is_openpcdet(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's content is laid out as that program does."""
    return CONTAINER in content or any(str(name).startswith(PREFIX) for name in content)


def from_openpcdet(content: Mapping[str, Any], source: Path) -> State:
    """A VoxelNet's tensors out of an OpenPCDet checkpoint (a whole detector's, or the encoder's alone).

    Raises:
        InputError: there are no such keys.
    """
    tensors = content.get(CONTAINER, content)
    theirs = tensors_under(tensors, PREFIX) if isinstance(tensors, Mapping) else {}
    if not theirs:
        why = f"no key begins with {PREFIX}; its keys begin {', '.join(map(str, list(content)[:4]))}"
        raise InputError("no OpenPCDet encoder in the checkpoint", where=source, why=why)
    return {_renamed(name, _OUR_PARTS): _swapped(value) for name, value in theirs.items()}


def openpcdet_bytes(network: nn.Module) -> bytes:
    """A checkpoint that OpenPCDet loads as a pre-trained model; of the same weights, the same bytes."""
    content = io.BytesIO()  # torch's own writer would report a full disk without an error number
    torch.save({CONTAINER: to_openpcdet(network)}, content)
    return content.getvalue()


def _renamed(name: str, parts: Mapping[str, str]) -> str:
    if name.count(".") < 2:  # of another network: the loader says so
        return name
    layer, part, tensor = name.rsplit(".", 2)
    return f"{layer}.{parts.get(part, part)}.{tensor}"


def _swapped(value: Tensor) -> Tensor:
    return value.permute(_SWAP_AXES).contiguous() if value.ndim == len(_SWAP_AXES) else value
