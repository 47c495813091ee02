"""Sparse 3-D convolutions: the one file that imports spconv, and that picks its algorithm for the device.

Letters: V voxels, C channels. Coordinates are (V, 4) int32 rows [batch, x, y, z], distinct, all >= 0.
"""

import logging
import warnings
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from hvd.models.neighbours import Pairs, overlapping_pairs, strided_pairs, submanifold_pairs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside spconv and cumm, nothing a user could act on
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    import spconv.core  # noqa: TID251

    if not torch.cuda.is_available():
        # Descriptions of GPU kernels: making them takes 9 of the 10 seconds of spconv's import (measured).
        spconv.core.ALL_IMPGEMM_PARAMS.clear()
        spconv.core.ALL_NATIVE_PARAMS.clear()
    from spconv.core import ConvAlgo  # noqa: TID251
    from spconv.pytorch import SparseConvTensor, functional  # noqa: TID251
    from spconv.pytorch.conv import SparseConvolution  # noqa: TID251

SparseTensor: TypeAlias = SparseConvTensor


def sparse_tensor(feature: Tensor, coords: Tensor, batch_size: int, shape: Sequence[int]) -> SparseTensor:
    """Features (V, C) float32 at coords (V, 4) int32 inside `shape` = (X, Y, Z)."""
    return SparseConvTensor(feature.contiguous(), coords, list(shape), batch_size)


def bounding_shape(coords: Tensor, multiple: int) -> tuple[int, int, int]:
    """The smallest (X, Y, Z) that holds `coords`, rounded up so that stride `multiple` drops no voxel."""
    x, y, z = (-(-(int(top) + 1) // multiple) * multiple for top in coords[:, 1:].amax(dim=0))
    return x, y, z


def replace(x: SparseTensor, feature: Tensor) -> SparseTensor:
    """The same voxels with other features (V, C)."""
    return x.replace_feature(feature)


class _Strided(NamedTuple):
    """What a DownConv leaves behind for the UpConv that undoes it."""

    coords: Tensor  # (V, 4) of its inputs
    shape: list[int]  # that hold them
    pairs: Pairs


class SubmanifoldConv(SparseConvolution):
    """A 3x3x3 convolution whose outputs sit on its inputs' voxels; layers of one `key` share one table of neighbours.

    Here and below: spconv's default algorithm needs a GPU. On the CPU its native products run on our tables (see
    hvd.models.neighbours); the weights are the same, laid out as (out_channels, x, y, z, in_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, key: str) -> None:
        super().__init__(3, in_channels, out_channels, 3, subm=True, bias=False, indice_key=key)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(V, in_channels) -> (V, out_channels) at the same voxels."""
        if x.features.is_cuda:
            return super().forward(x)
        if self.indice_key not in x.indice_dict:
            x.indice_dict[self.indice_key] = submanifold_pairs(x.indices)
        pairs: Pairs = x.indice_dict[self.indice_key]
        feature = functional.indice_subm_conv(*_operands(self, x, pairs), len(x.indices), ConvAlgo.Native)
        return replace(x, feature)


class DownConv(SparseConvolution):
    """A convolution with kernel = stride: each output voxel covers its own block of inputs."""

    def __init__(self, in_channels: int, out_channels: int, key: str, stride: int | Sequence[int] = 2) -> None:
        super().__init__(3, in_channels, out_channels, stride, stride, bias=False, indice_key=key)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(V, in_channels) -> (U, out_channels) at the U blocks that hold a voxel."""
        if x.features.is_cuda:
            return super().forward(x)
        coarse, pairs = strided_pairs(x.indices, self.stride)
        x.indice_dict[self.indice_key] = _Strided(x.indices, x.spatial_shape, pairs)
        feature = functional.indice_conv(*_operands(self, x, pairs), len(coarse), ConvAlgo.Native)
        shape = [size // step for size, step in zip(x.spatial_shape, self.stride, strict=True)]
        return _moved(x, feature, coarse, shape)


class StridedConv(SparseConvolution):
    """A convolution of any kernel, stride and padding, each (x, y, z); `key` must be its own (spconv's GPU tables)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        key: str,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        super().__init__(
            3, in_channels, out_channels, list(kernel), list(stride), list(padding), bias=False, indice_key=key
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(V, in_channels) -> (U, out_channels) at the U voxels that a tap reaches."""
        if x.features.is_cuda:
            return super().forward(x)
        sizes = zip(x.spatial_shape, self.kernel_size, self.stride, self.padding, strict=True)
        shape = [(size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in sizes]
        coords, pairs = overlapping_pairs(x.indices, shape, self.kernel_size, self.stride, self.padding)
        feature = functional.indice_conv(*_operands(self, x, pairs), len(coords), ConvAlgo.Native)
        return _moved(x, feature, coords, shape)


class UpConv(SparseConvolution):
    """The transpose of the DownConv with the same `key`: back onto exactly the voxels that one took in."""

    def __init__(self, in_channels: int, out_channels: int, key: str) -> None:
        super().__init__(3, in_channels, out_channels, 2, inverse=True, bias=False, indice_key=key)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(U, in_channels) -> (V, out_channels)."""
        if x.features.is_cuda:
            return super().forward(x)
        fine, shape, pairs = x.indice_dict[self.indice_key]
        feature = functional.indice_inverse_conv(*_operands(self, x, pairs), len(fine), ConvAlgo.Native)
        return _moved(x, feature, fine, shape)


def _operands(conv: SparseConvolution, x: SparseTensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x.features, conv.weight, pairs.rows, pairs.counts


def _moved(x: SparseTensor, feature: Tensor, coords: Tensor, shape: list[int]) -> SparseTensor:
    return SparseConvTensor(feature, coords, shape, x.batch_size, indice_dict=x.indice_dict)
