"""A detector on disk: one safetensors file that carries its own configuration."""

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from hvd.errors import InputError
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import DetectorConfig
from hvd.models.student import write_tensors
from hvd.models.weights import load_checkpoint, load_into

FILE = "detector.safetensors"


def save_detector(folder: Path, detector: CentreDetector) -> None:
    """Write a detector's weights with its configuration in the file's metadata."""
    write_tensors(folder / FILE, detector.state_dict(), {"config": json.dumps(detector.config.resolved())})


def load_detector(folder: Path, device: torch.device) -> CentreDetector:
    """The detector of an artifact's folder, in eval mode.

    Raises:
        InputError: unreadable, or its weights don't fit its configuration.
    """
    path = folder / FILE
    config = _read_config(path)
    if config is None:
        raise InputError("no detector", where=path, why="the file carries no configuration")
    detector = CentreDetector(config)
    load_into(detector, load_checkpoint(path), path)
    return detector.to(device).eval()


def _read_config(path: Path) -> DetectorConfig | None:
    """The configuration a weights file carries; None for files that other programs wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("config")
        return None if text is None else DetectorConfig.model_validate_json(text)
    except (OSError, SafetensorError) as error:
        raise InputError("cannot read the weights file", where=path, why=str(error).splitlines()[0]) from None
    except ValidationError as error:
        raise InputError("no detector", where=path, why=str(error).splitlines()[0]) from None
