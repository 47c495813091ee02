"""Depth networks: from the teacher's features to context and a depth distribution per feature cell.

The paper's is BEVDepth's camera-aware one (arXiv 2206.10092); the small one serves the small recipes.
Letters: N images, C_in teacher channels, C context channels, D depth bins, h x w feature cells, H hidden channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from hvd.models.teacher_config import DEFORM_GROUPS, DepthNetConfig

CAMERA_NUMBERS = 4 + 2 * 3 + 3 * 4
_ASPP_DILATIONS = (6, 12, 18)  # beside a 1x1 branch and a global one


def camera_numbers(intrinsics: Tensor, aug_from_image: Tensor, ego_from_camera: Tensor) -> Tensor:
    """What a depth network knows of the camera: fx, fy, cx, cy; 2x3 of aug_from_image; 3x4 of ego_from_camera.

    Args:
        intrinsics: (N, 3, 3).
        aug_from_image: (N, 3, 3).
        ego_from_camera: (N, 4, 4).

    Returns:
        (N, 22) float32, matrices row by row.
    """
    focal_and_centre = intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    parts = [focal_and_centre, aug_from_image[:, :2].flatten(1), ego_from_camera[:, :3].flatten(1)]
    return torch.cat([part.float() for part in parts], dim=1)


def build_depth_net(config: DepthNetConfig, in_channels: int, num_bins: int) -> nn.Module:
    """The network of `config`.

    Its forward takes features (N, C_in, h, w) and camera (N, 22), and gives context (N, C, h, w) and depth logits
    (N, D, h, w). Call it in training mode with two images or more: the camera numbers pass a batch norm.
    """
    return _KINDS[config.kind](config, in_channels, num_bins)


class SmallDepthNet(nn.Module):
    """Context by one 1x1 convolution; depth by 1x1 and 3x3 convolution, camera-gated, then 1x1.

    A context that sees its neighbours and the camera tells places apart without telling things apart, and teaches the
    student that: docs/decisions/0008.
    """

    def __init__(self, config: DepthNetConfig, in_channels: int, num_bins: int) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.context = nn.Conv2d(in_channels, config.context_channels, 1)
        self.reduce = _conv_bn_relu(in_channels, hidden, 1)
        self.gate = CameraGate(hidden)
        self.depth = nn.Sequential(_conv_bn_relu(hidden, hidden, 3), nn.Conv2d(hidden, num_bins, 1))

    def forward(self, features: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C_in, h, w), camera (N, 22) -> context (N, C, h, w), depth logits (N, D, h, w)."""
        features = _channels_last(features)
        return self.context(features), self.depth(self.gate(self.reduce(features), camera))


class CameraAwareDepthNet(nn.Module):
    """BEVDepth's: camera-gated context, and camera-gated depth by residual blocks, ASPP and a deformable convolution.

    ASPP has no dropout, so that no step draws random numbers.
    """

    def __init__(self, config: DepthNetConfig, in_channels: int, num_bins: int) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.reduce = _conv_bn_relu(in_channels, hidden, 3)
        self.context_gate = CameraGate(hidden)
        self.context = nn.Conv2d(hidden, config.context_channels, 1)
        self.depth_gate = CameraGate(hidden)
        self.depth = nn.Sequential(
            *(ResidualBlock(hidden) for _ in range(3)),
            Aspp(hidden),
            DeformableConv(hidden),
            nn.Conv2d(hidden, num_bins, 1),
        )

    def forward(self, features: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C_in, h, w), camera (N, 22) -> context (N, C, h, w), depth logits (N, D, h, w)."""
        x = self.reduce(_channels_last(features))
        return self.context(self.context_gate(x, camera)), self.depth(self.depth_gate(x, camera))


class CameraGate(nn.Module):
    """Squeeze-and-excite whose gate comes from the camera alone: x * sigmoid(MLP(camera))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(CAMERA_NUMBERS)  # the numbers span six orders of magnitude
        self.mlp = nn.Sequential(
            nn.Linear(CAMERA_NUMBERS, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, camera: Tensor) -> Tensor:
        """(N, channels, h, w), (N, 22) -> (N, channels, h, w)."""
        gate: Tensor = self.mlp(self.norm(camera))
        return x * gate[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_bn_relu(channels, channels, 3),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            BatchNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        residual: Tensor = self.body(x)
        return F.relu(x + residual)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, arXiv 1706.05587): local, dilated and global branches, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_conv_bn_relu(channels, channels, 1), *(_conv_bn_relu(channels, channels, 3, d) for d in _ASPP_DILATIONS)]
        )
        self.overall = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))
        self.fuse = _conv_bn_relu(channels * (len(_ASPP_DILATIONS) + 2), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        parts = [branch(x) for branch in self.branches]
        fused: Tensor = self.fuse(torch.cat([*parts, self.overall(x).expand_as(parts[0])], dim=1))
        return fused


class DeformableConv(nn.Module):
    """3x3 grouped deformable convolution (arXiv 1703.06211) that starts as a plain one; float32 with autocast off."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(channels, 2 * 3 * 3, 3, padding=1)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)
        self.conv = DeformConv2d(channels, channels, 3, padding=1, groups=DEFORM_GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape, float32."""
        with torch.autocast(x.device.type, enabled=False):  # torchvision has no bfloat16 kernel on the CPU
            x = x.float()
            out: Tensor = self.conv(x, self.offset(x))
        return out


class BatchNorm(nn.BatchNorm2d):
    """Batch norm in float32 with autocast off."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape, float32."""
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = super().forward(x.float())
        return out


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, BatchNorm(out_channels), nn.ReLU(inplace=True))


def _channels_last(features: Tensor) -> Tensor:
    """Free where they already are; 1x1 convolutions on the CPU take a third of the time, and the splat reads rows."""
    return features.contiguous(memory_format=torch.channels_last)


_KINDS = {"small": SmallDepthNet, "paper": CameraAwareDepthNet}
