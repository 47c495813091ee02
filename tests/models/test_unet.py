"""The sparse U-Net: its wiring against a dense one, its size against a hand count, and what must not change it."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hvd.models.config import PAPER_UNET, SMALL_UNET, UNetConfig
from hvd.models.sparse import SparseTensor
from hvd.models.unet import ConvNorm, ResidualBlock, SparseUNet
from tests.models.dense import at, random_coords, to_dense

SHAPE = (32, 16, 16)
TINY = UNetConfig(voxel_size_m=0.2, stem=4, planes=(5, 6, 7, 8, 9, 10, 11, 12), layers=(1, 2, 1, 1, 1, 1, 2, 1))


@pytest.fixture
def coords() -> Tensor:
    return random_coords(2, SHAPE, 0.05, seed=0)


def _network(config: UNetConfig = TINY) -> SparseUNet:
    """With running statistics unlike the initial ones, so that evaluation says something about them."""
    torch.manual_seed(0)
    network = SparseUNet(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network


class DenseUNet:
    """The same weights on dense volumes, where each level's unoccupied voxels are set to 0 after each layer."""

    def __init__(self, network: SparseUNet, occupied: Tensor) -> None:
        self.network = network
        self.masks = [occupied]
        for _ in range(4):
            self.masks.append(F.max_pool3d(self.masks[-1], 2))

    def __call__(self, volume: Tensor) -> Tensor:
        net, skips = self.network, []
        x = self._conv_norm(net.stem, volume, level=0)
        for level in range(4):
            skips.append(x)
            x = self._blocks(net.encoder[level], self._conv_norm(net.down[level], x, level + 1, stride=2), level + 1)
        for step, level in enumerate((3, 2, 1, 0)):
            x = torch.cat([self._up(net.up[step], x, level), skips[level]], dim=1)
            x = self._blocks(net.decoder[step], x, level)
        return x

    def _conv_norm(self, layer: ConvNorm, x: Tensor, level: int, stride: int = 1) -> Tensor:
        return self._norm(layer.norm, self._conv(layer.conv, x, stride)).relu() * self.masks[level]

    def _up(self, layer: ConvNorm, x: Tensor, level: int) -> Tensor:
        x = F.conv_transpose3d(x, layer.conv.weight.permute(4, 0, 1, 2, 3), stride=2)
        return self._norm(layer.norm, x).relu() * self.masks[level]

    def _blocks(self, blocks: nn.Sequential, x: Tensor, level: int) -> Tensor:
        for block in blocks:
            y = self._norm(block.norm, self._conv(block.conv, self._conv_norm(block.first, x, level)))
            x = (y + self._shortcut(block, x)).relu() * self.masks[level]
        return x

    def _shortcut(self, block: ResidualBlock, x: Tensor) -> Tensor:
        if isinstance(block.shortcut, nn.Identity):
            return x
        linear, norm = block.shortcut
        return self._norm(norm, F.conv3d(x, linear.weight[:, :, None, None, None]))

    def _conv(self, conv: nn.Module, x: Tensor, stride: int = 1) -> Tensor:
        return F.conv3d(x, conv.weight.permute(0, 4, 1, 2, 3), stride=stride, padding=1 if stride == 1 else 0)

    def _norm(self, norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def test_equals_a_dense_network(coords: Tensor) -> None:
    network = _network().eval()
    feature = torch.rand(len(coords), 1)
    dense = DenseUNet(network, to_dense(torch.ones(len(coords), 1), coords, 2, SHAPE))
    expected = at(dense(to_dense(feature, coords, 2, SHAPE)), coords)
    output = network(feature, coords, 2)
    assert output.shape == (len(coords), network.out_channels)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def _hand_count(config: UNetConfig, in_channels: int) -> int:
    """Trained numbers, from the layers' definitions: k^3 weights per channel pair, 2 numbers per batch-norm channel."""

    def block(a: int, b: int) -> int:
        return 27 * a * b + 2 * b + 27 * b * b + 2 * b + (a * b + 2 * b if a != b else 0)

    def stage(a: int, b: int, layers: int) -> int:
        return block(a, b) + (layers - 1) * block(b, b)

    encoder, decoder = config.planes[:4], config.planes[4:]
    total = 27 * in_channels * config.stem + 2 * config.stem
    width, skips = config.stem, []
    for here, layers in zip(encoder, config.layers[:4], strict=True):
        skips.append(width)
        total += 8 * width * width + 2 * width + stage(width, here, layers)
        width = here
    for here, layers in zip(decoder, config.layers[4:], strict=True):
        total += 8 * width * here + 2 * here + stage(here + skips.pop(), here, layers)
        width = here
    return total


@pytest.mark.parametrize(("config", "count"), [(PAPER_UNET, 37_842_976), (SMALL_UNET, 1_810_472)])
def test_parameter_count(config: UNetConfig, count: int) -> None:
    network = SparseUNet(config)
    assert sum(p.numel() for p in network.parameters()) == _hand_count(config, in_channels=1) == count


def test_paper_count_agrees_with_the_published_one() -> None:
    """MinkUNet34C has 37.85 M: a 5x5x5 stem on 3 colours where ours is 3x3x3 on intensity, and a linear layer to 20."""
    ours = _hand_count(PAPER_UNET, in_channels=1)
    published = ours - 27 * 1 * 32 + 125 * 3 * 32 + 96 * 20 + 20
    assert published == 37_856_052
    assert 37.842 < ours / 1e6 < published / 1e6 < 37.857


def test_every_parameter_learns(coords: Tensor) -> None:
    network = _network()
    network(torch.rand(len(coords), 1), coords, 2).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_voxel_order_does_not_matter(coords: Tensor) -> None:
    network, feature = _network().eval(), torch.rand(len(coords), 1)
    order = torch.randperm(len(coords))
    shuffled = network(feature[order], coords[order], 2)
    torch.testing.assert_close(shuffled, network(feature, coords, 2)[order], rtol=1e-4, atol=1e-5)


def test_samples_do_not_see_each_other_in_evaluation(coords: Tensor) -> None:
    network, feature = _network().eval(), torch.rand(len(coords), 1)
    second = coords[:, 0] == 1
    alone = coords[second] - torch.tensor([1, 0, 0, 0], dtype=torch.int32)
    torch.testing.assert_close(
        network(feature[second], alone, 1), network(feature, coords, 2)[second], rtol=1e-4, atol=1e-5
    )


def test_a_shift_by_the_total_stride_does_not_matter(coords: Tensor) -> None:
    network, feature = _network().eval(), torch.rand(len(coords), 1)
    shifted = coords + torch.tensor([0, 16, 160, 32], dtype=torch.int32)
    torch.testing.assert_close(network(feature, shifted, 2), network(feature, coords, 2), rtol=1e-4, atol=1e-5)


def test_same_bits_twice(coords: Tensor) -> None:
    feature = torch.rand(len(coords), 1)
    outputs, gradients = [], []
    for _ in range(2):
        network = _network()
        outputs.append(network(feature, coords, 2))
        outputs[-1].square().sum().backward()
        gradients.append(network.stem.conv.weight.grad)
    assert torch.equal(*outputs)
    assert torch.equal(*gradients)


def test_autocast_leaves_it_in_float32(coords: Tensor) -> None:
    network, feature = _network().eval(), torch.rand(len(coords), 1)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(feature, coords, 2)
    assert torch.equal(output, network(feature, coords, 2))


def test_activations_are_freed_without_the_cycle_collector(coords: Tensor) -> None:
    network, seen = _network(), []

    def remember(module: nn.Module, inputs: tuple[SparseTensor], output: SparseTensor) -> None:
        seen.append(weakref.ref(output))

    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.register_forward_hook(remember)
    gc.disable()
    try:
        network(torch.rand(len(coords), 1), coords, 2)
        assert len(seen) > 10
        assert all(output() is None for output in seen)
    finally:
        gc.enable()


def test_every_norm_has_the_configuration_s_momentum() -> None:
    network = SparseUNet(SMALL_UNET.with_(norm_momentum=0.37))
    assert {layer.momentum for layer in network.modules() if isinstance(layer, nn.BatchNorm1d)} == {0.37}
