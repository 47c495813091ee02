"""Export: the student's weights as safetensors or for OpenPCDet, its configuration, and a model card."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cache import disk
from cache.failpoint import failpoint
from cache.work import Work
from hvd.errors import InputError
from hvd.models.config import UNetConfig, require_kind
from hvd.models.detector_config import VoxelNetConfig
from hvd.models.openpcdet import openpcdet_bytes
from hvd.models.student import FILE, load_backbone, read_config, student_file
from hvd.models.unet import SparseUNet
from hvd.models.voxelnet import VoxelNet
from stages import protocol
from stages.model_card import INPUT, OPENPCDET_FILE, model_card
from stages.runtime import Runtime
from stages.specs import ExportConfig

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


def run(config: ExportConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write weights, configuration and model card; loading the weights first proves that they fit the network."""
    network, student = open_student(inputs["student"], torch.device("cpu"))
    trained = protocol.read(inputs["student"])
    if config.format == "openpcdet":
        require_kind(network.kind, "voxelnet", inputs["student"])
        disk.write(work.folder / OPENPCDET_FILE, openpcdet_bytes(student), "export")
    else:
        failpoint("export.copy")
        shutil.copyfile(student_file(inputs["student"]), work.folder / FILE)
    values = {
        "network": f"{type(student).__module__}.{type(student).__qualname__}",
        "config": network.resolved(),
        "input": INPUT[network.kind],
        "out_channels": student.out_channels,
        "protocol": trained,
    }
    disk.write(work.folder / CONFIG_FILE, json.dumps(values, indent=1).encode("utf8"), "export")
    parameters = sum(weight.numel() for weight in student.parameters())
    card = model_card(network, student.out_channels, parameters, trained, config.format)
    disk.write(work.folder / CARD_FILE, card.encode("utf8"), "export")
    return {"parameters": parameters, "out_channels": student.out_channels}


def open_student(place: Path, device: torch.device) -> tuple[UNetConfig | VoxelNetConfig, SparseUNet | VoxelNet]:
    """The student at `place` (an artifact's folder or a weights file), built as its own file says, in eval mode.

    Raises:
        InputError: unreadable, or a file that does not say which network it holds.
    """
    path = student_file(place)
    network = read_config(path)
    if network is None:
        raise InputError(
            "the weights file does not say which network it holds",
            where=path,
            hint="name a student that hvd wrote: --from KEY, or its student.safetensors",
        )
    return network, load_backbone(place, network, device).eval()
