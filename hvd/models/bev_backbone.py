"""SECOND's 2-D network on the bird's-eye-view map.

Letters: B samples, C channels, X x Y cells of the map, x x y cells of the output.
"""

import torch
from torch import Tensor, nn

from hvd.models.detector_config import BevBackboneConfig

_EPS = 1e-3  # of batch norm, as in the published networks


class BevBackbone(nn.Module):
    """Blocks one after another, each brought back to the output's resolution.

    Attributes:
        out_channels: width of the output.
    """

    def __init__(self, config: BevBackboneConfig, in_channels: int) -> None:
        super().__init__()
        self.out_channels: int = config.out_channels
        self.blocks, self.ups = nn.ModuleList(), nn.ModuleList()
        for layers, stride, channels, upsample, up_channels in zip(
            config.layers, config.strides, config.channels, config.upsample, config.up_channels, strict=True
        ):
            convs = [conv_norm(in_channels, channels, config.norm_momentum, stride)]
            convs += [conv_norm(channels, channels, config.norm_momentum) for _ in range(layers)]
            self.blocks.append(nn.Sequential(*convs))
            up = nn.ConvTranspose2d(channels, up_channels, upsample, upsample, bias=False)
            self.ups.append(_normed(up, up_channels, config.norm_momentum))
            in_channels = channels

    def forward(self, bev: Tensor) -> Tensor:
        """(B, C, X, Y) -> (B, out_channels, x, y)."""
        outputs = []
        for block, up in zip(self.blocks, self.ups, strict=True):
            bev = block(bev)
            outputs.append(up(bev))
        return torch.cat(outputs, dim=1)


def conv_norm(in_channels: int, channels: int, momentum: float, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return _normed(nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False), channels, momentum)


def _normed(conv: nn.Module, channels: int, momentum: float) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(channels, eps=_EPS, momentum=momentum), nn.ReLU(inplace=True))
