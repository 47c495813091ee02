"""Frozen image networks that teach: an image in, a feature map out.

A teacher is anything that gives a feature map and its stride. EfficientNet-Lite0, the built-in default, was trained
with ImageNet labels; ResNet-50 with a self-supervised checkpoint (MoCo-v2, DINO, SwAV) is the paper's setting.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50

from hvd import log
from hvd.errors import InputError, UsageError
from hvd.models.teacher_config import TeacherConfig, TeacherShape, expected_digest, weights_path
from hvd.models.weights import State, load_checkpoint, load_into, resnet_state, tensors_under

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_UNTRAINED_SEED = 0


class Teacher(nn.Module):
    """A frozen trunk with its input normalisation: always in eval mode, never with gradients.

    Attributes:
        name: the registry's.
        channels, stride: of the feature map.
        mean, std: (3,) of the normalisation, for RGB in 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, trunk: nn.Module, shape: TeacherShape, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.name, self.channels, self.stride = name, shape.channels, shape.stride
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode whatever is asked: the teacher's batch norm never moves."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..1 -> (B, channels, H / stride, W / stride).

        Raises:
            UsageError: the stride does not divide the image size.
        """
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise UsageError(f"image size {height}x{width} is no multiple of {self.stride}, the stride of {self.name}")
        normalised = (images - self.mean[:, None, None]) / self.std[:, None, None]
        normalised = normalised.contiguous(memory_format=torch.channels_last)
        if images.device.type != "cpu":
            return self._features(normalised)
        # One by one: an image's activations stay in the cache, and what else is in the batch can't change its bits.
        return torch.cat([self._features(image) for image in normalised.split(1)])

    def _features(self, normalised: Tensor) -> Tensor:
        features: Tensor = self.trunk(normalised)
        return features


def build_teacher(config: TeacherConfig) -> Teacher:
    """The teacher of `config`, loaded and frozen.

    Raises:
        InputError: no weights named, missing or unreadable file, or a file of another network.
        CorruptError: the file's SHA-256 is not the expected one.
    """
    path = weights_path(config)
    if path is None:
        log.warn(f"teacher {config.name} has random weights, as asked by teacher.untrained")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        return TEACHERS[config.name](config, path)


def _efficientnet_lite0(config: TeacherConfig, path: Path | None) -> Teacher:
    stages = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3, 4))
    trunk = MultiScale(stages)
    if path is not None:
        state = efficientnet_lite0_state(load_checkpoint(path, expected_digest(config)), path)
        log.info(f"teacher {config.name}: {load_into(stages, state, path)}")
    return Teacher(config.name, trunk, config.shape, mean=_HALF, std=_HALF)


def efficientnet_lite0_state(content: Mapping[str, Any], source: Path) -> State:
    """The published file's tensors under timm's names, classifier included: they map one to one, in order.

    Raises:
        InputError: the file's tensors are not those of EfficientNet-Lite0.
    """
    with torch.device("meta"):
        wanted = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    found = list(tensors_under(content, "").values())
    if [t.shape for t in found] != [t.shape for t in wanted.values()]:
        why = f"{len(found)} tensors, against {len(wanted)} of EfficientNet-Lite0, or of other shapes"
        raise InputError("these weights are of another network", where=source, why=why)
    return dict(zip(wanted, found, strict=True))


class MultiScale(nn.Module):
    """Features at strides 8, 16 and 32 of the doubled image, side by side at stride 8: stride 4 of the image itself."""

    def __init__(self, stages: nn.Module) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, 472, H / 4, W / 4)."""
        doubled = F.interpolate(images, scale_factor=2.0, mode="bilinear", align_corners=False)
        fine, *coarser = self.stages(doubled)
        height, width = fine.shape[-2:]
        # Scaled by the exact factor and then cut, so that cells stay aligned where a coarse map overhangs the image.
        raised = [
            F.interpolate(x, scale_factor=2.0**level, mode="bilinear", align_corners=False)[..., :height, :width]
            for level, x in enumerate(coarser, 1)
        ]
        return torch.cat([fine, *raised], dim=1)


def _resnet50(config: TeacherConfig, path: Path | None) -> Teacher:
    trunk = dilated_resnet50()
    if path is not None:
        state, layout = resnet_state(load_checkpoint(path, expected_digest(config)), path)
        log.info(f"teacher {config.name}, layout {layout}: {load_into(trunk, state, path)}")
    return Teacher(config.name, trunk, config.shape, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)


def dilated_resnet50() -> nn.Sequential:
    """ResNet-50 without its classifier, the last three stages dilated in place of strided: stride 4."""
    network = resnet50(weights=None, replace_stride_with_dilation=[True, True, True])
    return nn.Sequential(
        OrderedDict((name, child) for name, child in network.named_children() if name not in ("avgpool", "fc"))
    )


TEACHERS: dict[str, Callable[[TeacherConfig, Path | None], Teacher]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "resnet50": _resnet50,
}
