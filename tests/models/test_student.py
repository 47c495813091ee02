"""Students on disk: both kinds, what may differ when one is loaded, and what is refused in one line."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from hvd.errors import InputError
from hvd.models.config import UNetConfig
from hvd.models.detector_config import VoxelNetConfig
from hvd.models.student import build_student, load_backbone, read_config, save_student

CPU = torch.device("cpu")
UNET = UNetConfig(voxel_size_m=0.5, stem=4, planes=(4, 6, 6, 8, 8, 6, 6, 5), layers=(1,) * 8)
VOXELNET = VoxelNetConfig(
    voxel_size_m=(0.2, 0.2, 0.2),
    range_min_m=(-6.4, -6.4, -3.0),
    range_max_m=(6.4, 6.4, 1.8),
    stem=3,
    stages=(4, 5, 6, 7),
    out_channels=8,
)
FRONT = {"range_min_m": (0.0, -1.6, -3.0), "range_max_m": (4.8, 1.6, 1.8)}


def saved(folder: Path, config: UNetConfig | VoxelNetConfig) -> nn.Module:
    torch.manual_seed(0)
    network = build_student(config)
    save_student(folder / "student.safetensors", network, config)
    return network


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    found: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return found


@pytest.mark.parametrize("config", [UNET, VOXELNET])
def test_a_student_comes_back_as_it_was(tmp_path: Path, config: UNetConfig | VoxelNetConfig) -> None:
    before = saved(tmp_path, config)
    assert read_config(tmp_path / "student.safetensors") == config
    after = load_backbone(tmp_path, config, CPU)
    assert type(after) is type(before) and after.out_channels == config.feature_channels
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name


def test_a_u_nets_file_is_what_it_was_before_there_were_other_kinds(tmp_path: Path) -> None:
    """Its digest enters the keys of what is fine-tuned from it."""
    network = saved(tmp_path, UNET)
    plain = {
        "voxel_size_m": 0.5,
        "stem": 4,
        "planes": [4, 6, 6, 8, 8, 6, 6, 5],
        "layers": [1, 1, 1, 1, 1, 1, 1, 1],
        "norm_momentum": 0.05,
    }
    written = save(dict(network.state_dict()), {"config": json.dumps(plain)})
    assert (tmp_path / "student.safetensors").read_bytes() == written


def test_a_voxelnets_file_says_its_kind(tmp_path: Path) -> None:
    saved(tmp_path, VOXELNET)
    found = metadata(tmp_path / "student.safetensors")
    assert list(found) == ["config"]
    assert json.loads(found["config"]) == {"kind": "voxelnet", **VOXELNET.resolved()}


def test_a_detectors_range_may_differ_and_the_features_are_the_same_there(tmp_path: Path) -> None:
    around = saved(tmp_path, VOXELNET).eval()
    front = load_backbone(tmp_path, VOXELNET.with_(**FRONT), CPU).eval()
    assert front.config.range_min_m == FRONT["range_min_m"]
    inner = torch.tensor([[12, 8, 9], [13, 8, 11], [15, 9, 9], [16, 7, 10]])  # far from both borders, from the front's
    feature, sample = torch.rand(4, 4), torch.zeros(4, 1)
    shift = torch.tensor(front.config.low) - torch.tensor(around.config.low)
    assert shift.tolist() == [32, 24, 0]  # whole strides, so that the levels' voxels are the same ones
    with torch.no_grad():
        one = front(feature, torch.cat([sample, inner], dim=1).int(), 1)
        other = around(feature, torch.cat([sample, inner + shift], dim=1).int(), 1)
    torch.testing.assert_close(one, other)


def test_a_fine_tuning_may_take_another_momentum(tmp_path: Path) -> None:
    saved(tmp_path, VOXELNET)
    loaded = load_backbone(tmp_path, VOXELNET.with_(norm_momentum=0.5), CPU)
    norms = [module for module in loaded.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norms and all(norm.momentum == 0.5 for norm in norms)


def test_what_pre_training_read_is_nothing_to_a_detector(tmp_path: Path) -> None:
    student = saved(tmp_path, VOXELNET.with_(read=("conv4", "conv_out")))
    loaded = load_backbone(tmp_path, VOXELNET, CPU).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": 5}, "stem 3 there, 5 here"),
        ({"stages": (1, 1, 1, 1)}, "stages "),
        ({"voxel_size_m": (0.4, 0.4, 0.2), "range_min_m": (-6.4, -6.4, -3.2)}, "voxel_size_m .* there"),
    ],
)
def test_everything_else_must_be_equal(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    saved(tmp_path, VOXELNET)
    low = changes.get("range_min_m", VOXELNET.range_min_m)
    other = VOXELNET.with_(**changes, range_max_m=(6.4, 6.4, round(low[2] + 4.8, 6)))  # type: ignore[index]
    with pytest.raises(InputError, match=message) as caught:
        load_backbone(tmp_path, other, CPU)
    assert "\n" not in str(caught.value) and "range" not in str(caught.value)


@pytest.mark.parametrize(("there", "here"), [(UNET, VOXELNET), (VOXELNET, UNET)])
def test_the_other_kind_is_refused_by_name(
    tmp_path: Path, there: UNetConfig | VoxelNetConfig, here: UNetConfig | VoxelNetConfig
) -> None:
    saved(tmp_path, there)
    message = f"a {there.title}, and a {here.title} is needed.*hvd pretrain --student {here.kind}"
    with pytest.raises(InputError, match=message) as caught:
        load_backbone(tmp_path, here, CPU)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot read the student"),
        ("[" * 100_000, "cannot read the student"),
        ("[1]", "no table"),
        ('{"kind": "pointnet"}', "unknown kind: 'pointnet'"),
        ('{"kind": [1]}', "unknown kind"),
        ('{"kind": "voxelnet", "stem": 3}', "cannot read the student"),
        (json.dumps({**UNET.resolved(), "kind": "voxelnet"}), "cannot read the student"),
        (json.dumps(VOXELNET.resolved()), "cannot read the student"),
    ],
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, config: str, message: str) -> None:
    path = tmp_path / "student.safetensors"
    path.write_bytes(save({"a": torch.zeros(1)}, {"config": config}))
    with pytest.raises(InputError, match=message) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)
