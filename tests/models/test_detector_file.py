"""Detectors on disk: the same bits come back, and what is none is refused."""

import json

import pytest
import torch

from hvd.errors import InputError
from hvd.models.config import SMALL_UNET
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import SMALL_DETECTOR, SMALL_VOXELNET
from hvd.models.detector_file import FILE, load_detector, save_detector
from hvd.models.student import write_tensors
from hvd.models.voxelnet import VoxelNet

CPU = torch.device("cpu")


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_detector_comes_back_in_eval_mode(tmp_path):
    detector = CentreDetector(SMALL_DETECTOR)
    save_detector(tmp_path, detector)
    loaded = load_detector(tmp_path, CPU)
    assert equal(detector, loaded) and loaded.config == SMALL_DETECTOR and not loaded.training


def test_a_missing_or_broken_file_is_one_error(tmp_path):
    with pytest.raises(InputError, match="cannot read the weights file"):
        load_detector(tmp_path, CPU)
    (tmp_path / FILE).write_bytes(b"<html>")
    with pytest.raises(InputError, match="cannot read the weights file"):
        load_detector(tmp_path, CPU)


def test_another_network_is_no_detector(tmp_path):
    write_tensors(tmp_path / FILE, VoxelNet(SMALL_VOXELNET).state_dict(), {"config": json.dumps(SMALL_UNET.resolved())})
    with pytest.raises(InputError, match="no detector"):
        load_detector(tmp_path, CPU)
