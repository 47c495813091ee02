"""The student: a residual sparse U-Net (MinkUNet's Res16UNet, Choy et al., CVPR 2019), built from a UNetConfig.

Letters: V voxels, C channels.
"""

import torch
from torch import Tensor, nn

from hvd.models.config import UNetConfig
from hvd.models.sparse import (
    DownConv,
    SparseTensor,
    StridedConv,
    SubmanifoldConv,
    UpConv,
    bounding_shape,
    replace,
    sparse_tensor,
)

IN_CHANNELS = 1  # mean intensity of a voxel's points
_LEVELS = 4
_TOTAL_STRIDE = 2**_LEVELS


class SparseUNet(nn.Module):
    """Voxel features at full resolution from voxel intensities.

    Attributes:
        out_channels: width of the output features.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        planes, layers, momentum = config.planes, config.layers, config.norm_momentum
        widths = [config.stem, *planes[:_LEVELS]]  # by level: what the encoder hands on, and the decoder takes up
        self.out_channels: int = planes[-1]
        self.stem = ConvNorm(SubmanifoldConv(IN_CHANNELS, config.stem, "subm0"), momentum)
        self.down = nn.ModuleList()
        self.encoder = nn.ModuleList()
        for level in range(1, _LEVELS + 1):
            above, here = widths[level - 1], widths[level]
            self.down.append(ConvNorm(DownConv(above, above, f"down{level}"), momentum))
            self.encoder.append(_stage(above, here, layers[level - 1], f"subm{level}", momentum))
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        below = widths[-1]
        for step, level in enumerate(reversed(range(_LEVELS))):
            here = planes[_LEVELS + step]
            self.up.append(ConvNorm(UpConv(below, here, f"down{level + 1}"), momentum))
            self.decoder.append(_stage(here + widths[level], here, layers[_LEVELS + step], f"subm{level}", momentum))
            below = here

    def forward(self, feature: Tensor, coords: Tensor, batch_size: int) -> Tensor:
        """Features (V, 1) float32 at coords (V, 4) int32 [batch, x, y, z] >= 0 -> (V, out_channels)."""
        with torch.autocast(feature.device.type, enabled=False):
            x = sparse_tensor(feature.float(), coords, batch_size, bounding_shape(coords, _TOTAL_STRIDE))
            x = self.stem(x)
            skips = []
            for down, stage in zip(self.down, self.encoder, strict=True):
                skips.append(x)
                x = stage(down(x))
            for up, stage in zip(self.up, self.decoder, strict=True):
                x = up(x)
                x = stage(replace(x, torch.cat([x.features, skips.pop().features], dim=1)))
            features: Tensor = x.features
            return features


def _stage(in_channels: int, channels: int, layers: int, key: str, momentum: float) -> nn.Sequential:
    first = ResidualBlock(in_channels, channels, key, momentum)
    return nn.Sequential(first, *(ResidualBlock(channels, channels, key, momentum) for _ in range(layers - 1)))


class ConvNorm(nn.Module):
    """Sparse convolution, batch norm, ReLU."""

    def __init__(
        self, conv: SubmanifoldConv | DownConv | StridedConv | UpConv, momentum: float, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm1d(conv.out_channels, eps=eps, momentum=momentum)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.conv(x)
        return replace(x, self.norm(x.features).relu_())


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, which is a linear layer where the width changes."""

    def __init__(self, in_channels: int, channels: int, key: str, momentum: float) -> None:
        super().__init__()
        self.first = ConvNorm(SubmanifoldConv(in_channels, channels, key), momentum)
        self.conv = SubmanifoldConv(channels, channels, key)
        self.norm = nn.BatchNorm1d(channels, momentum=momentum)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels:
            linear = nn.Linear(in_channels, channels, bias=False)
            self.shortcut = nn.Sequential(linear, nn.BatchNorm1d(channels, momentum=momentum))

    def forward(self, x: SparseTensor) -> SparseTensor:
        y = self.conv(self.first(x))
        return replace(y, self.norm(y.features).add_(self.shortcut(x.features)).relu_())
