"""Sparse convolutions against dense ones, forward and backward."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hvd.models.sparse import (
    ConvAlgo,
    DownConv,
    StridedConv,
    SubmanifoldConv,
    UpConv,
    bounding_shape,
    sparse_tensor,
)
from tests.models.dense import at, random_coords, to_dense

SAMPLES, SHAPE = 2, (8, 6, 4)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def _both_ways(conv: torch.nn.Module, compute: Callable[[Tensor], Tensor], feature: Tensor) -> list[Tensor]:
    """Output, and gradients of a fixed weighting of it with respect to the feature and the weight."""
    feature = feature.clone().requires_grad_()
    conv.weight.grad = None
    output = compute(feature)
    weighting = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    (output * weighting).sum().backward()
    assert feature.grad is not None
    return [output.detach(), feature.grad, conv.weight.grad]


def _assert_same(one: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def _dense_weight(conv: torch.nn.Module) -> Tensor:
    return conv.weight.permute(0, 4, 1, 2, 3)  # (out, x, y, z, in) -> (out, in, x, y, z)


@pytest.fixture
def coords() -> Tensor:
    return random_coords(SAMPLES, SHAPE, 0.3, seed=0)


def test_submanifold_equals_dense(coords: Tensor) -> None:
    torch.manual_seed(0)
    conv, feature = SubmanifoldConv(5, 7, "k"), torch.randn(len(coords), 5)

    def dense(feature: Tensor) -> Tensor:
        return at(F.conv3d(to_dense(feature, coords, SAMPLES, SHAPE), _dense_weight(conv), padding=1), coords)

    def sparse(feature: Tensor) -> Tensor:
        return conv(sparse_tensor(feature, coords, SAMPLES, SHAPE)).features

    _assert_same(_both_ways(conv, sparse, feature), _both_ways(conv, dense, feature))


@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 3, 4)])
def test_strided_equals_dense(coords: Tensor, stride: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    conv, feature = DownConv(5, 7, "k", stride), torch.randn(len(coords), 5)
    reached = conv(sparse_tensor(feature, coords, SAMPLES, SHAPE))

    def dense(feature: Tensor) -> Tensor:
        volume = F.conv3d(to_dense(feature, coords, SAMPLES, SHAPE), _dense_weight(conv), stride=stride)
        assert tuple(reached.spatial_shape) == volume.shape[2:]
        elsewhere = 1 - to_dense(torch.ones(len(reached.indices), 1), reached.indices, SAMPLES, reached.spatial_shape)
        assert not (volume * elsewhere).any()
        return at(volume, reached.indices)

    def sparse(feature: Tensor) -> Tensor:
        return conv(sparse_tensor(feature, coords, SAMPLES, SHAPE)).features

    _assert_same(_both_ways(conv, sparse, feature), _both_ways(conv, dense, feature))


OVERLAPPING = [
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),  # SECOND's
    ((3, 3, 3), (2, 2, 2), (1, 1, 0)),
    ((1, 1, 3), (1, 1, 2), (0, 0, 0)),
    ((2, 3, 4), (3, 1, 2), (0, 2, 1)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), OVERLAPPING)
def test_overlapping_equals_dense(
    coords: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int], padding: tuple[int, int, int]
) -> None:
    torch.manual_seed(5)
    conv, feature = StridedConv(5, 7, "k", kernel, stride, padding), torch.randn(len(coords), 5)
    reached = conv(sparse_tensor(feature, coords, SAMPLES, SHAPE))

    def dense(feature: Tensor) -> Tensor:
        inputs = to_dense(feature, coords, SAMPLES, SHAPE)
        volume = F.conv3d(inputs, _dense_weight(conv), stride=stride, padding=padding)
        assert tuple(reached.spatial_shape) == volume.shape[2:]
        elsewhere = 1 - to_dense(torch.ones(len(reached.indices), 1), reached.indices, SAMPLES, reached.spatial_shape)
        assert not (volume * elsewhere).any()
        return at(volume, reached.indices)

    def sparse(feature: Tensor) -> Tensor:
        return conv(sparse_tensor(feature, coords, SAMPLES, SHAPE)).features

    _assert_same(_both_ways(conv, sparse, feature), _both_ways(conv, dense, feature))


@pytest.mark.parametrize(("kernel", "stride", "padding"), OVERLAPPING)
def test_overlapping_reaches_the_voxels_that_spconv_does(
    coords: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int], padding: tuple[int, int, int]
) -> None:
    torch.manual_seed(6)
    conv = StridedConv(4, 4, "k", kernel, stride, padding)
    x = sparse_tensor(torch.randn(len(coords), 4), coords, SAMPLES, SHAPE)
    ours = conv(x)
    conv.algo = ConvAlgo.Native
    theirs = super(StridedConv, conv).forward(sparse_tensor(x.features, coords, SAMPLES, SHAPE))
    assert ours.spatial_shape == theirs.spatial_shape
    assert {tuple(c) for c in ours.indices.tolist()} == {tuple(c) for c in theirs.indices.tolist()}
    one, other = (to_dense(y.features, y.indices, SAMPLES, tuple(y.spatial_shape)) for y in (ours, theirs))
    torch.testing.assert_close(one, other, **TOLERANCE)


def test_inverse_equals_dense_transpose_on_the_original_voxels(coords: Tensor) -> None:
    torch.manual_seed(2)
    down, up = DownConv(3, 5, "k"), UpConv(5, 7, "k")
    coarse = down(sparse_tensor(torch.randn(len(coords), 3), coords, SAMPLES, SHAPE))
    feature = coarse.features.detach()

    def dense(feature: Tensor) -> Tensor:
        half = tuple(size // 2 for size in SHAPE)
        volume = to_dense(feature, coarse.indices, SAMPLES, half)
        return at(F.conv_transpose3d(volume, up.weight.permute(4, 0, 1, 2, 3), stride=2), coords)

    def sparse(feature: Tensor) -> Tensor:
        fine = up(coarse.replace_feature(feature))
        assert torch.equal(fine.indices, coords)
        assert tuple(fine.spatial_shape) == SHAPE
        return fine.features

    _assert_same(_both_ways(up, sparse, feature), _both_ways(up, dense, feature))


def test_tables_give_what_spconv_gives_with_its_own(coords: Tensor) -> None:
    torch.manual_seed(3)
    conv = SubmanifoldConv(4, 4, "k")
    x = sparse_tensor(torch.randn(len(coords), 4), coords, SAMPLES, SHAPE)
    ours = conv(x).features
    conv.algo = ConvAlgo.Native
    theirs = super(SubmanifoldConv, conv).forward(sparse_tensor(x.features, coords, SAMPLES, SHAPE)).features
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_a_volume_beyond_32_bits_merges_nothing(coords: Tensor) -> None:
    samples, wide = 20, (4096, 4096, 512)  # 2^37 places
    shared = coords[coords[:, 0] == 0]
    many = torch.cat([torch.cat([torch.full_like(shared[:, :1], b), shared[:, 1:]], dim=1) for b in range(samples)])
    torch.manual_seed(4)
    feature = torch.randn(len(shared), 3).repeat(samples, 1)
    for conv in (SubmanifoldConv(3, 5, "s"), DownConv(3, 5, "d")):
        outputs = [conv(sparse_tensor(feature, many, samples, shape)) for shape in (SHAPE, wide)]
        assert torch.equal(outputs[0].features, outputs[1].features)
        assert torch.equal(outputs[0].indices, outputs[1].indices)
    conv.algo = ConvAlgo.Native  # the reason for tables of our own: spconv's merge voxels of different samples
    theirs = super(DownConv, conv).forward(sparse_tensor(feature, many, samples, wide))
    assert len(theirs.indices) < len(outputs[1].indices)


def test_bounding_shape_is_rounded_up() -> None:
    coords = torch.tensor([[0, 15, 16, 0], [1, 3, 2, 0]], dtype=torch.int32)
    assert bounding_shape(coords, 16) == (16, 32, 16)


def test_importing_is_silent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", "import torch; import hvd.models.sparse"],
        capture_output=True,
        check=True,
    )
    assert done.stdout + done.stderr == b""
