"""Teachers: the built-in one against classes that it must see, ResNet-50 against torchvision's."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from skimage import data
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models import resnet50

from hvd.config import parse
from hvd.errors import CorruptError, InputError, UsageError
from hvd.models.teacher import TEACHERS, MultiScale, build_teacher, dilated_resnet50, efficientnet_lite0_state
from hvd.models.teacher_config import (
    TEACHER_SHAPES,
    UNTRAINED,
    DepthBins,
    TeacherConfig,
    expected_digest,
    weights_digest,
    weights_path,
)
from hvd.models.weights import load_checkpoint

LITE0 = TeacherConfig()
BUNDLED = weights_path(LITE0)


def centre_crop(image: np.ndarray, size: int = 224) -> Tensor:
    """The image's short side scaled to `size`, and its middle: (1, 3, size, size) in 0..1."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    pixels = interpolate(pixels, scale_factor=size / min(pixels.shape[2:]), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((n - size) // 2 for n in pixels.shape[2:])
    return pixels[..., top : top + size, left : left + size]


@pytest.mark.parametrize(("image", "label", "probability"), [("chelsea", 285, 0.39), ("coffee", 967, 0.94)])
def test_the_bundled_weights_know_a_cat_and_a_coffee(image: str, label: int, probability: float) -> None:
    classifier = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    classifier.load_state_dict(efficientnet_lite0_state(load_checkpoint(BUNDLED), BUNDLED))
    with torch.no_grad():
        scores = classifier((centre_crop(getattr(data, image)()) - 0.5) / 0.5).softmax(1)[0]
    assert scores.argmax() == label
    assert scores[label].item() == pytest.approx(probability, abs=0.1)


def test_lite0_features_are_those_of_the_whole_classifier() -> None:
    """Strides 8, 16 and 32 of the doubled image, side by side."""
    teacher = build_teacher(LITE0)
    classifier = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    classifier.load_state_dict(efficientnet_lite0_state(load_checkpoint(BUNDLED), BUNDLED))
    image = centre_crop(data.chelsea(), 64)
    doubled = interpolate(image, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        _, wanted = classifier.forward_intermediates((doubled - 0.5) / 0.5)
    by_stride = {128 // w.shape[-1]: w for w in wanted}
    fine, middle, coarse = teacher(image).split([40, 112, 320], dim=1)
    torch.testing.assert_close(fine, by_stride[8], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        middle, interpolate(by_stride[16], scale_factor=2, mode="bilinear"), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        coarse, interpolate(by_stride[32], scale_factor=4, mode="bilinear"), rtol=1e-4, atol=1e-4
    )


def test_overhanging_coarse_features_stay_aligned() -> None:
    """72 pixels, doubled, are 4.5 cells of stride 32: the fifth overhangs, and the others must not be squeezed."""

    class Stages(torch.nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [torch.zeros(1, 1, 4, 18), torch.zeros(1, 1, 2, 9), torch.arange(5.0).expand(1, 1, 1, 5)]

    raised = MultiScale(Stages())(torch.zeros(1, 3, 16, 72))[0, 2, 0]
    centres = (torch.arange(18) + 0.5) / 4 - 0.5  # of the fine cells, in coarse cells
    torch.testing.assert_close(raised, centres.clamp(min=0))
    assert build_teacher(LITE0)(torch.zeros(1, 3, 72, 72)).shape == (1, 472, 18, 18)


def test_resnet50_keeps_stage_one_and_the_parameter_set() -> None:
    plain, dilated = resnet50(weights=None).eval(), dilated_resnet50().eval()
    wanted = {k: v for k, v in plain.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in dilated.state_dict().items()} == {k: v.shape for k, v in wanted.items()}

    dilated.load_state_dict(wanted)
    images = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(images)))))
        assert torch.equal(dilated[:5](images), x)
        assert dilated(images).shape == (1, 2048, 4, 6)
    dilations = [m.dilation[0] for name, m in dilated.named_modules() if name.endswith("1.conv2")]
    assert dilations == [1, 2, 4, 8]  # of the last blocks: the stride that each stage and those before it gave up


@pytest.fixture(scope="module")
def teachers() -> Callable[[str], torch.nn.Module]:
    """Each registered teacher, untrained where nothing is bundled, built once."""
    return {
        name: build_teacher(TeacherConfig(name=name, untrained=name != "efficientnet_lite0")) for name in TEACHERS
    }.get


@pytest.mark.parametrize("name", TEACHERS)
class TestEveryTeacher:
    """What a student may rely on."""

    def test_shape_as_planned(self, teachers: Callable[[str], torch.nn.Module], name: str) -> None:
        teacher = teachers(name)
        features = teacher(torch.rand(2, 3, 16, 32))
        assert (teacher.channels, teacher.stride) == TEACHER_SHAPES[name]
        assert features.shape == (2, teacher.channels, 16 // teacher.stride, 32 // teacher.stride)
        assert features.isfinite().all()

    def test_frozen_whatever_is_asked(self, teachers: Callable[[str], torch.nn.Module], name: str) -> None:
        teacher = teachers(name)
        teacher.train()
        before = {k: v.clone() for k, v in teacher.state_dict().items()}
        features = teacher(torch.rand(2, 3, 16, 16).requires_grad_())
        assert not features.requires_grad and not any(p.requires_grad for p in teacher.parameters())
        assert not any(m.training for m in teacher.modules())
        assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())

    def test_an_image_has_its_own_features_in_any_batch(
        self, teachers: Callable[[str], torch.nn.Module], name: str
    ) -> None:
        images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(teachers(name)(images)[1], teachers(name)(images[1:2])[0])

    def test_normalisation(self, teachers: Callable[[str], torch.nn.Module], name: str) -> None:
        teacher, seen = teachers(name), []
        hook = teacher.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        teacher(teacher.mean.view(1, 3, 1, 1).expand(1, 3, 16, 16))
        teacher((teacher.mean + teacher.std).view(1, 3, 1, 1).expand(1, 3, 16, 16))
        hook.remove()
        torch.testing.assert_close(seen[0], torch.zeros(1, 3, 16, 16))
        torch.testing.assert_close(seen[1], torch.ones(1, 3, 16, 16))

    def test_refuses_a_size_that_its_stride_does_not_divide(
        self, teachers: Callable[[str], torch.nn.Module], name: str
    ) -> None:
        with pytest.raises(UsageError, match="30x32"):
            teachers(name)(torch.rand(1, 3, 30, 32))


def test_random_weights_only_when_asked() -> None:
    with pytest.raises(InputError, match=r"teacher\.untrained"):
        build_teacher(TeacherConfig(name="resnet50"))
    with pytest.raises(InputError, match=r"teacher\.untrained"):
        weights_digest(TeacherConfig(name="resnet50"))
    assert weights_digest(TeacherConfig(name="resnet50", untrained=True)) == UNTRAINED


def test_untrained_is_the_same_each_time_and_leaves_the_generator_alone() -> None:
    config = TeacherConfig(name="efficientnet_lite0", untrained=True)
    state = torch.get_rng_state()
    one, two = build_teacher(config), build_teacher(config)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_wrong_path_is_an_error_at_once() -> None:
    for name in TEACHERS:
        with pytest.raises(InputError, match=r"no such weights file: /nowhere/x\.pth"):
            weights_digest(TeacherConfig(name=name, weights="/nowhere/x.pth"))


def test_lite0_refuses_other_weights(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="1 tensors, against 296"):
        build_teacher(TeacherConfig(weights=str(path)))


def test_digest_of_the_bundled_file_is_the_one_in_the_code() -> None:
    assert weights_digest(LITE0) == expected_digest(LITE0) == hashlib.sha256(BUNDLED.read_bytes()).hexdigest()


def test_a_flipped_byte_is_corrupt_by_sha256(tmp_path: Path) -> None:
    path = tmp_path / "lite0.pth"
    shutil.copy(BUNDLED, path)
    config = TeacherConfig(weights=str(path), sha256=weights_digest(LITE0))
    build_teacher(config)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match="sha256"):
        weights_digest(config)
    with pytest.raises(CorruptError, match="sha256"):
        build_teacher(config)


def test_the_key_holds_no_path() -> None:
    config = TeacherConfig(name="resnet50", weights="/somewhere/x.pth", sha256="0" * 64)
    assert config.resolved() == {"name": "resnet50", "untrained": False}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "resnet51"}, "resnet50"),
        ({"untrained": True, "weights": "x"}, "exclude each other"),
        ({"sha256": "0" * 64}, "none is given"),
        ({"weights": "x", "sha256": "abc"}, "pattern"),
    ],
)
def test_contradictions_are_usage_errors(tree: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(TeacherConfig, tree)


def test_depth_bins_of_the_paper() -> None:
    bins = DepthBins()
    assert bins.count == len(bins.centres) == 118
    assert (bins.centres[0], bins.centres[-1]) == (1.25, 59.75)
    assert DepthBins(lo_m=1, hi_m=51, step_m=1).count == 50


def test_depth_bins_must_be_whole() -> None:
    with pytest.raises(UsageError, match=r"116\.667 bins"):
        parse(DepthBins, {"lo_m": 1.0, "hi_m": 36.0, "step_m": 0.3})
