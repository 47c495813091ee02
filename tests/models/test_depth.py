"""Depth networks: what they read, how their parts behave, and which parts stay in float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from hvd.models.depth import CAMERA_NUMBERS, Aspp, BatchNorm, DeformableConv, build_depth_net, camera_numbers
from hvd.models.teacher_config import DEFORM_GROUPS, DepthNetConfig

IN_CHANNELS, NUM_BINS, IMAGES, HEIGHT, WIDTH = 12, 7, 3, 5, 6
KINDS = ["small", "paper"]


def net(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_depth_net(DepthNetConfig(kind=kind, context_channels=9, hidden_channels=8), IN_CHANNELS, NUM_BINS)


def inputs() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    features = torch.randn(IMAGES, IN_CHANNELS, HEIGHT, WIDTH, generator=draw)
    return features, torch.randn(IMAGES, CAMERA_NUMBERS, generator=draw)


def test_camera_numbers_by_hand() -> None:
    intrinsics = torch.tensor([[[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]])
    aug_from_image = torch.tensor([[[0.5, 0.1, -3.0], [0.2, 0.6, 4.0], [0, 0, 1]]])
    ego_from_camera = torch.arange(16.0).view(1, 4, 4).double()
    expected = [500, 510, 320, 240, 0.5, 0.1, -3, 0.2, 0.6, 4, *range(12)]
    numbers = camera_numbers(intrinsics, aug_from_image, ego_from_camera)
    assert numbers.dtype == torch.float32 and numbers.shape == (1, CAMERA_NUMBERS) == (1, 22)
    torch.testing.assert_close(numbers[0], torch.tensor(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_a_gradient_for_every_parameter(kind: str) -> None:
    depth_net = net(kind)
    context, logits = depth_net(*inputs())
    assert context.shape == (IMAGES, 9, HEIGHT, WIDTH) and logits.shape == (IMAGES, NUM_BINS, HEIGHT, WIDTH)
    (context.square().sum() + logits.square().sum()).backward()
    without = [name for name, p in depth_net.named_parameters() if p.grad is None or not p.grad.any()]
    # A following batch norm may leave a bias at zero, but nothing a convolution's or a linear layer's weight.
    assert not [name for name in without if dict(depth_net.named_parameters())[name].ndim > 1]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_no_random_numbers(kind: str) -> None:
    depth_net = net(kind).train()
    state = torch.get_rng_state()
    one, two = depth_net(*inputs()), depth_net(*inputs())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_camera_changes_depth_and_the_papers_context(kind: str) -> None:
    depth_net = net(kind).eval()
    features, camera = inputs()
    one, two = depth_net(features, camera), depth_net(features, camera + 1)
    changed = [bool((a - b).abs().max() > 1e-4) for a, b in zip(one, two, strict=True)]
    assert changed == [kind == "paper", True]


def test_the_small_nets_context_sees_one_cell() -> None:
    depth_net = net("small").eval()
    features, camera = inputs()
    other = features.clone()
    other[:, :, 1:] += 1
    one, two = depth_net(features, camera)[0], depth_net(other, camera)[0]
    torch.testing.assert_close(one[:, :, 0], two[:, :, 0])
    assert (one[:, :, 1:] - two[:, :, 1:]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_learns_one_depth_per_camera_from_equal_images(kind: str) -> None:
    depth_net = net(kind).train()
    features = inputs()[0][:1].expand(IMAGES, -1, -1, -1)
    camera, target = inputs()[1], torch.arange(IMAGES)
    optimiser = torch.optim.Adam(depth_net.parameters(), lr=0.02)
    for _ in range(40):
        logits = depth_net(features, camera)[1].mean((2, 3))
        optimiser.zero_grad()
        F.cross_entropy(logits, target).backward()
        optimiser.step()
    assert logits.argmax(1).tolist() == target.tolist()


def test_deformable_conv_starts_as_a_plain_one() -> None:
    layer, x = DeformableConv(8), torch.randn(2, 8, 6, 7, generator=torch.Generator().manual_seed(0))
    plain = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1, groups=DEFORM_GROUPS)
    torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-5)


def test_deformable_conv_samples_where_its_offsets_say() -> None:
    layer, x = DeformableConv(8), torch.randn(2, 8, 6, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.offset.bias.view(9, 2)[:, 1] = 2.0  # (y, x) per tap: all two columns to the right
    moved = F.conv2d(F.pad(x[..., 2:], (0, 2)), layer.conv.weight, layer.conv.bias, padding=1, groups=DEFORM_GROUPS)
    torch.testing.assert_close(layer(x)[..., 1:-3], moved[..., 1:-3], rtol=1e-5, atol=1e-5)


def test_aspp_sees_as_far_as_its_dilations() -> None:
    aspp = Aspp(2).eval()
    for parameter in aspp.overall.parameters():
        nn.init.zeros_(parameter)  # the global branch sees everything
    for conv in (m for m in aspp.modules() if isinstance(m, nn.Conv2d) and m.weight.any()):
        nn.init.ones_(conv.weight)  # so that no path cancels
    impulse = torch.zeros(1, 2, 41, 41)
    impulse[..., 20, 20] = 1.0
    seen = aspp(impulse)[0, 0].nonzero() - 20
    expected = {(0, 0)} | {(d * i, d * j) for d in (6, 12, 18) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert {tuple(offset) for offset in seen.tolist()} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_in_convolutions_and_linear_layers_alone(kind: str) -> None:
    depth_net = net(kind).train()
    types: dict[type, set[torch.dtype]] = {}
    for module in depth_net.modules():
        module.register_forward_hook(
            lambda m, _, out: types.setdefault(type(m), set()).add(getattr(out, "dtype", None))
        )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context, logits = depth_net(*inputs())
    assert types[nn.Linear] == {torch.bfloat16}
    assert torch.bfloat16 in types[nn.Conv2d]
    assert types[BatchNorm] == types[nn.BatchNorm1d] == {torch.float32}
    assert types.get(DeformableConv, {torch.float32}) == {torch.float32}
    (context.float().sum() + logits.float().square().sum()).backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in depth_net.parameters())


def test_why_deformable_conv_and_splat_run_in_float32() -> None:
    """What the comments in the code claim of these libraries on the CPU."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)
    with pytest.raises(RuntimeError):
        deform_conv2d(x, torch.zeros(1, 18, 3, 3).bfloat16(), torch.zeros(1, 1, 3, 3).bfloat16(), padding=1)
    rows, weight = torch.zeros(2, 3, dtype=torch.bfloat16), torch.ones(2)
    with pytest.raises(RuntimeError):
        F.embedding_bag(torch.tensor([0, 1]), rows, torch.tensor([0]), mode="sum", per_sample_weights=weight)
