"""Detectors and encoders on disk: the same bits come back, another range fits, another shape doesn't."""

import json

import pytest
import torch

from hvd.errors import InputError
from hvd.models.config import SMALL_UNET
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import SMALL_DETECTOR, SMALL_VOXELNET
from hvd.models.detector_file import load_detector, load_voxelnet, save_detector
from hvd.models.student import FILE, write_tensors
from hvd.models.voxelnet import VoxelNet

CPU = torch.device("cpu")


def save_encoder(folder, config, kind=None):
    student = VoxelNet(SMALL_VOXELNET)
    write_tensors(folder / FILE, student.state_dict(), {"config": json.dumps((kind or config).resolved())})
    return student


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_detector_comes_back_in_eval_mode(tmp_path):
    detector = CentreDetector(SMALL_DETECTOR)
    save_detector(tmp_path, detector)
    loaded = load_detector(tmp_path, CPU)
    assert equal(detector, loaded) and loaded.config == SMALL_DETECTOR and not loaded.training


def test_an_encoder_of_another_range_fits(tmp_path):
    around = SMALL_VOXELNET.with_(range_min_m=(-51.2, -51.2, -5.0), range_max_m=(51.2, 51.2, 3.8))
    student = save_encoder(tmp_path, around)
    assert equal(student, load_voxelnet(tmp_path, SMALL_VOXELNET, CPU))
    assert equal(student, load_voxelnet(tmp_path / FILE, SMALL_VOXELNET, CPU))


def test_an_encoder_of_other_voxels_does_not(tmp_path):
    save_encoder(tmp_path, SMALL_VOXELNET.with_(voxel_size_m=(0.1, 0.1, 0.1)))
    with pytest.raises(InputError, match=r"another configuration.*voxel_size_m \(0.1, 0.1, 0.1\) there"):
        load_voxelnet(tmp_path, SMALL_VOXELNET, CPU)


def test_a_segmentation_student_is_no_encoder(tmp_path):
    save_encoder(tmp_path, SMALL_VOXELNET, kind=SMALL_UNET)
    with pytest.raises(InputError, match="no VoxelNet"):
        load_voxelnet(tmp_path, SMALL_VOXELNET, CPU)


def test_a_missing_or_broken_file_is_one_error(tmp_path):
    with pytest.raises(InputError, match="cannot read the weights file"):
        load_detector(tmp_path, CPU)
    (tmp_path / FILE).write_bytes(b"<html>")
    with pytest.raises(InputError, match="cannot read the weights file"):
        load_voxelnet(tmp_path, SMALL_VOXELNET, CPU)
