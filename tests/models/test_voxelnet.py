"""The encoder against a dense network in OpenPCDet's own axis order, its lattices, and its weights on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from hvd.errors import InputError
from hvd.models.detector_config import KITTI_VOXELNET, SMALL_DETECTOR, VoxelNetConfig
from hvd.models.openpcdet import openpcdet_bytes, to_openpcdet
from hvd.models.sparse import sparse_tensor
from hvd.models.student import load_backbone
from hvd.models.voxelnet import LATTICES, VoxelNet
from tests.models.dense import at, random_coords, to_dense

TINY = VoxelNetConfig(
    voxel_size_m=(0.2, 0.2, 0.2),
    range_min_m=(0.0, -1.6, -3.0),
    range_max_m=(4.8, 1.6, 1.8),
    stem=3,
    stages=(4, 5, 6, 7),
    out_channels=8,
)
SHAPE = (24, 16, 24)


def _network(seed: int, config: VoxelNetConfig = TINY) -> VoxelNet:
    """With statistics and weights that leave no batch norm an identity."""
    torch.manual_seed(seed)
    network = VoxelNet(config).eval()
    for name, value in network.state_dict().items():
        if ".norm." in name and value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    return network


def test_an_empty_cloud_has_no_features() -> None:
    empty = torch.zeros(0, 4)
    assert _network(0)(empty, empty.int(), 1).shape == (0, TINY.feature_channels)


def _inputs(seed: int, share: float = 0.03) -> tuple[Tensor, Tensor]:
    coords = random_coords(2, SHAPE, share, seed)
    return torch.randn(len(coords), 4, generator=torch.Generator().manual_seed(seed)), coords


def _dense_levels(weights: dict[str, Tensor], feature: Tensor, coords: Tensor) -> dict[str, Tensor]:
    """VoxelBackBone8x with dense convolutions and masks, axes (z, y, x), from its own keys: (B, C, Z, Y, X) each."""
    x, y, z = TINY.shape
    swapped = coords[:, [0, 3, 2, 1]]
    volume, mask = (to_dense(f, swapped, 2, (z, y, x)) for f in (feature, torch.ones(len(coords), 1)))

    def layer(name: str, stride: tuple[int, ...] | int = 1, padding: tuple[int, ...] | int = 1) -> None:
        nonlocal volume, mask
        kernel = weights[f"backbone_3d.{name}.0.weight"].permute(0, 4, 1, 2, 3)
        volume = F.conv3d(volume, kernel, stride=stride, padding=padding)
        if stride != 1:
            mask = (F.conv3d(mask, torch.ones(1, 1, *kernel.shape[2:]), stride=stride, padding=padding) > 0).float()
        norm = [weights[f"backbone_3d.{name}.1.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        volume = F.batch_norm(volume, *norm, eps=1e-3).relu() * mask

    levels = {}
    layer("conv_input")
    layer("conv1.0")
    levels["conv1"] = volume
    for number, padding in ((2, 1), (3, 1), (4, (0, 1, 1))):
        layer(f"conv{number}.0", 2, padding)
        layer(f"conv{number}.1")
        layer(f"conv{number}.2")
        levels[f"conv{number}"] = volume
    layer("conv_out", (2, 1, 1), 0)
    levels["conv_out"] = volume
    return levels


def test_every_level_equals_a_dense_network_from_the_exported_weights() -> None:
    network, (feature, coords) = _network(0), _inputs(1)
    with torch.no_grad():
        encoded = network.encode(feature, coords, 2)
        dense = _dense_levels(to_openpcdet(network), feature, coords)
    for name, level in encoded.levels.items():
        volume = dense[name].permute(0, 1, 4, 3, 2)  # (B, C, X, Y, Z)
        assert tuple(level.spatial_shape) == volume.shape[2:], name
        torch.testing.assert_close(level.features, at(volume, level.indices), rtol=1e-4, atol=1e-5)
        assert volume.any(dim=1).sum() <= len(level.indices), name  # nothing lies elsewhere
    batch, channels, slices, y, x = dense["conv_out"].shape
    stacked = dense["conv_out"].reshape(batch, channels * slices, y, x)  # as OpenPCDet's HeightCompression
    torch.testing.assert_close(encoded.bev(), stacked.transpose(2, 3), rtol=1e-4, atol=1e-5)
    assert encoded.bev().shape == (2, TINY.bev_channels, *TINY.bev_shape)


@pytest.mark.parametrize("name", list(LATTICES))
def test_a_lone_input_at_a_voxels_centre_reaches_that_voxel_alone(name: str) -> None:
    """What LATTICES says of where the levels' voxels lie."""
    lattice = LATTICES[name]
    voxel = (1, 1, 0)
    place = [o * s + f for o, s, f in zip(voxel, lattice.stride, lattice.first, strict=True)]
    x = sparse_tensor(torch.ones(1, 4), torch.tensor([[0, *place]], dtype=torch.int32), 1, TINY.shape)
    network = VoxelNet(TINY).eval()
    x = network.conv_input(x)
    for level in LATTICES:
        x = getattr(network, level)(x)
        if level == name:
            break
    assert x.indices.tolist() == [[0, *voxel]]


def test_every_input_voxel_has_voxels_of_every_level_around_it() -> None:
    """So that no feature is made of nothing, at the range's borders neither."""
    corners = torch.cartesian_prod(torch.tensor([0]), *(torch.tensor([0, 1, n // 2, n - 2, n - 1]) for n in SHAPE))
    for coords in (corners.int(), _inputs(2)[1]):
        encoded = VoxelNet(TINY).eval().encode(torch.ones(len(coords), 4), coords, 2)
        for name, level in encoded.levels.items():
            encoded.levels[name] = level.replace_feature(torch.ones(len(level.indices), 1))
        torch.testing.assert_close(encoded.at_voxels(coords, tuple(LATTICES)), torch.ones(len(coords), 5))


def test_as_a_student_it_gives_the_levels_read_at_the_voxels_and_every_layer_learns() -> None:
    network, (feature, coords) = _network(3), _inputs(4)
    output = network(feature, coords, 2)
    assert output.shape == (len(coords), network.out_channels) == (len(coords), 5 + 6 + 7 + 8)
    encoded = network.encode(feature, coords, 2)
    even = (coords[:, 1:] % 2 == 0).all(dim=1)
    assert even.sum() > 10
    rows = {tuple(c): row for row, c in enumerate(encoded.levels["conv2"].indices.tolist())}
    at_even = [rows[(b, x // 2, y // 2, z // 2)] for b, x, y, z in coords[even].tolist()]
    torch.testing.assert_close(output[even][:, :5], encoded.levels["conv2"].features[at_even])
    output.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_moving_everything_by_a_stride_moves_the_features_with_it() -> None:
    """Away from the borders: what pre-training sees does not depend on where the range begins."""
    config = TINY.with_(range_max_m=(9.6, 1.6, 1.8))
    network, (feature, coords) = _network(5, config), _inputs(6)
    coords[:, 1] += 8
    moved = coords + torch.tensor([0, 8, 0, 0], dtype=torch.int32)
    with torch.no_grad():
        one, other = (network(feature, c, 2) for c in (coords, moved))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_voxels_outside_the_range_are_refused() -> None:
    for bad in ([0, 24, 0, 0], [0, 0, 0, 24], [0, 0, -1, 0]):
        with pytest.raises(ValueError, match="not all inside"):
            VoxelNet(TINY).encode(torch.ones(1, 4), torch.tensor([bad], dtype=torch.int32), 1)


def test_kitti_shapes_are_the_published_ones() -> None:
    assert KITTI_VOXELNET.shape == (1408, 1600, 41)
    assert KITTI_VOXELNET.bev_shape == (176, 200)
    assert KITTI_VOXELNET.bev_channels == 256
    assert KITTI_VOXELNET.low == (0, -800, -30)
    assert SMALL_DETECTOR.grid.shape == (88, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"range_max_m": (4.6, 1.6, 1.8)}, "not multiples of 8"),
        ({"range_max_m": (4.8, 1.6, 1.6)}, "not 24, 40, 56"),
        ({"range_max_m": (4.75, 1.6, 1.8)}, "not a whole"),
        ({"range_min_m": (0.1, -1.6, -3.0), "range_max_m": (4.9, 1.6, 1.8)}, "no whole number"),
        ({"read": ("conv2", "conv2")}, "twice"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VoxelNetConfig.model_validate({**dict(TINY), **changes})


class TestOpenPcdet:
    def test_keys_and_shapes_are_those_of_voxelbackbone8x(self) -> None:
        state = to_openpcdet(VoxelNet(KITTI_VOXELNET))
        widths = {"conv_input": (4, 16), "conv1.0": (16, 16), "conv_out": (64, 128)}
        for number, (below, here) in {2: (16, 32), 3: (32, 64), 4: (64, 64)}.items():
            widths |= {f"conv{number}.0": (below, here), f"conv{number}.1": (here, here)}
            widths[f"conv{number}.2"] = (here, here)
        expected = {}
        for layer, (below, here) in widths.items():
            kernel = (3, 1, 1) if layer == "conv_out" else (3, 3, 3)
            expected[f"backbone_3d.{layer}.0.weight"] = (here, *kernel, below)
            for name in ("weight", "bias", "running_mean", "running_var"):
                expected[f"backbone_3d.{layer}.1.{name}"] = (here,)
            expected[f"backbone_3d.{layer}.1.num_batches_tracked"] = ()
        assert {k: tuple(v.shape) for k, v in state.items()} == expected

    def test_round_trip(self, tmp_path: Path) -> None:
        """As a student that a user names by its path: a whole detector's checkpoint, or an encoder's tensors alone."""
        network, path = _network(7), tmp_path / "second.pth"
        path.write_bytes(openpcdet_bytes(network))
        state = torch.load(path, weights_only=True)["model_state"]
        rates = {"param_groups": [{"lr": np.float64(0.003), "betas": (np.float64(0.95), 0.99)}]}
        whole = {"model_state": {**state, "dense_head.weight": torch.ones(1)}, "epoch": 80, "optimizer_state": rates}
        for content in (whole, state):
            torch.save(content, path)
            student = load_backbone(path, TINY, torch.device("cpu"))
            for name, value in network.state_dict().items():
                assert torch.equal(value, student.state_dict()[name]), name

    def test_an_old_kernel_layout_and_other_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "old.pth"
        state = to_openpcdet(_network(9))
        old = {k: v.permute(1, 2, 3, 4, 0) if v.ndim == 5 else v for k, v in state.items()}
        torch.save({"model_state": old}, path)
        with pytest.raises(InputError, match="matched 48 of 60"):
            load_backbone(path, TINY, torch.device("cpu"))
        torch.save({"model_state": {"backbone_3d.pos_embed": torch.ones(1)}}, path)  # of a transformer
        with pytest.raises(InputError, match="matched 0 of 60"):
            load_backbone(path, TINY, torch.device("cpu"))
        torch.save({"model_state": {"dense_head.weight": torch.ones(1)}}, path)
        with pytest.raises(InputError, match="no OpenPCDet encoder"):
            load_backbone(path, TINY, torch.device("cpu"))
