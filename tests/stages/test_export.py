"""What leaves the toolkit: weights with a model card that says how to load them, and per-point features as HDF5."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cache.key import key_of
from cache.store import Store
from cache.work import Work
from hvd.datasets.prepared import Frame, part_path, write_frames
from hvd.datasets.voxels import collate, voxelize
from hvd.errors import InputError
from hvd.geometry.camera import Pairs
from hvd.models.config import UNetConfig
from hvd.models.detector_config import KITTI_VOXELNET, VoxelNetConfig
from hvd.models.student import load_backbone, read_config, save_student
from hvd.models.unet import SparseUNet
from hvd.models.voxelnet import VoxelNet
from hvd.models.weights import load_checkpoint
from stages import export, export_features, protocol
from stages.model_card import model_card
from stages.runtime import Runtime
from stages.selection import write_splits
from stages.specs import ExportConfig, ExportFeaturesConfig

NETWORK = UNetConfig(voxel_size_m=0.5, stem=4, planes=(4, 6, 6, 8, 8, 6, 6, 5), layers=(1,) * 8)
TRAINED = {"data": "built-in world, nuscenes rig", "views": "ipv+bev", "teacher": "efficientnet_lite0", "seed": 3}
RUNTIME = Runtime(device="cpu", workers=0)


@pytest.fixture
def student() -> SparseUNet:
    torch.manual_seed(0)
    network = SparseUNet(NETWORK)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):  # as after training: not the identity
            module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network.eval()


@pytest.fixture
def trained(tmp_path: Path, student: SparseUNet) -> Path:
    folder = tmp_path / "pretrain"
    folder.mkdir()
    save_student(folder / "student.safetensors", student, NETWORK)
    protocol.write(folder, TRAINED)
    return folder


VOXELNET = VoxelNetConfig(
    voxel_size_m=(0.5, 0.5, 0.25),
    range_min_m=(-8.0, -8.0, -4.0),
    range_max_m=(8.0, 8.0, 6.0),
    stem=3,
    stages=(4, 5, 6, 7),
    out_channels=8,
)


@pytest.fixture
def encoder() -> VoxelNet:
    torch.manual_seed(1)
    network = VoxelNet(VOXELNET)
    for name, value in network.state_dict().items():
        if ".norm." in name and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture
def trained_encoder(tmp_path: Path, encoder: VoxelNet) -> Path:
    folder = tmp_path / "pretrain-voxelnet"
    folder.mkdir()
    save_student(folder / "student.safetensors", encoder, VOXELNET)
    protocol.write(folder, {**TRAINED, "network": "VoxelNet"})
    return folder


def encoder_features_of(encoder: VoxelNet, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per-point features, the plain way: the points in a dictionary by voxel; NaN off the range."""
    low, edges, counts = np.array(VOXELNET.range_min_m), np.array(VOXELNET.voxel_size_m), np.array(VOXELNET.counts)
    cells: dict[tuple[int, ...], list[int]] = {}
    for row, point in enumerate(points.astype(np.float64)):
        place = (point[:3] - low) / edges
        if np.isfinite(point).all() and (place >= 0).all() and (place < counts).all():
            cells.setdefault(tuple(int(v) for v in place), []).append(row)
    out = np.full((len(points), encoder.out_channels), np.nan, np.float32)
    if cells:
        feature = np.stack([points[rows].astype(np.float64).mean(axis=0) for rows in cells.values()])
        coords = torch.tensor([(0, *cell) for cell in cells], dtype=torch.int32)
        with torch.no_grad():
            found = encoder(torch.from_numpy(feature).float(), coords, 1).numpy()
        for rows, value in zip(cells.values(), found, strict=True):
            out[rows] = value
    return out


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    with Store(tmp_path / "store").claim("export", key_of({})) as claimed:
        yield claimed


def cloud(count: int, seed: int) -> NDArray[np.float32]:
    """Points (N, 4) with many in one voxel."""
    random = np.random.default_rng(seed)
    xyz = random.normal(0, 4, (count, 3))
    return np.concatenate([xyz, random.random((count, 1))], axis=1).astype(np.float32)


def features_of(student: SparseUNet, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Per-point features, the plain way: look each point's voxel up by its coordinates."""
    batch = collate([voxelize(points[:, :3].astype(np.float64), points[:, 3], NETWORK.voxel_size_m)])
    with torch.no_grad():
        voxels = student(torch.from_numpy(batch.feature), torch.from_numpy(batch.coords), 1).numpy()
    place = {
        tuple(row): feature for row, feature in zip((batch.coords[:, 1:] + batch.origin).tolist(), voxels, strict=True)
    }
    nowhere = np.full(voxels.shape[1], np.nan, np.float32)
    out = []
    for x, y, z in points[:, :3].astype(np.float64):
        finite = np.isfinite([x, y, z]).all()
        out.append(place[x // 0.5, y // 0.5, z // 0.5] if finite else nowhere)
    return np.array(out)


def test_export_keeps_every_weight(trained: Path, work: Work) -> None:
    metrics = export.run(ExportConfig(), {"student": trained}, work, RUNTIME)
    before = load_checkpoint(trained / "student.safetensors")
    after = load_checkpoint(work.folder / "student.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert read_config(work.folder / "student.safetensors") == NETWORK
    assert sorted(path.name for path in work.folder.iterdir()) == ["README.md", "config.json", "student.safetensors"]
    assert metrics["out_channels"] == 5


def test_export_says_what_it_is(trained: Path, work: Work) -> None:
    export.run(ExportConfig(), {"student": trained}, work, RUNTIME)
    values = json.loads((work.folder / "config.json").read_text())
    assert UNetConfig.model_validate(values["config"]) == NETWORK
    assert values["protocol"] == TRAINED and values["out_channels"] == 5
    card = (work.folder / "README.md").read_text()
    for words in ("voxel size: 0.5 m", "- teacher: efficientnet_lite0", "- seed: 3", "mean intensity", "5 features"):
        assert words in card, words
    assert "{" not in card.split("```")[0]


def test_the_card_shows_how_to_load(
    trained: Path, work: Work, student: SparseUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    export.run(ExportConfig(), {"student": trained}, work, RUNTIME)
    found = re.search(r"```python\n(.*?)```", (work.folder / "README.md").read_text(), re.DOTALL)
    assert found is not None
    points = cloud(60, seed=1)
    names: dict[str, Any] = {"points": points}
    monkeypatch.chdir(work.folder)
    exec(found[1], names)
    features = names["features"].numpy()[names["batch"].point_voxel]
    np.testing.assert_allclose(features, features_of(student, points), atol=1e-6)


def test_export_is_the_same_twice(trained: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        with Store(tmp_path / name).claim("export", key_of({})) as work:
            export.run(ExportConfig(), {"student": trained}, work, RUNTIME)
            contents.append({path.name: path.read_bytes() for path in work.folder.iterdir()})
    assert contents[0] == contents[1]


def test_a_voxelnets_card_says_what_it_is_and_how_to_load_it(
    trained_encoder: Path, work: Work, encoder: VoxelNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    export.run(ExportConfig(), {"student": trained_encoder}, work, RUNTIME)
    values = json.loads((work.folder / "config.json").read_text())
    assert values["network"] == "hvd.models.voxelnet.VoxelNet"
    assert VoxelNetConfig.model_validate(values["config"]) == VOXELNET
    assert values["out_channels"] == 5 + 6 + 7 + 8 and "mean x, y, z" in values["input"]
    card = (work.folder / "README.md").read_text()
    for words in ("0.5 x 0.5 x 0.25 m, from (-8.0, -8.0, -4.0)", "26 features", "conv2, conv3", "object detection"):
        assert words in card, words
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None and "{" not in card.split("```")[0]
    points = cloud(60, seed=1)
    names: dict[str, Any] = {"points": points}
    monkeypatch.chdir(work.folder)
    exec(found[1], names)
    inside = names["batch"].point_voxel >= 0
    expected = encoder_features_of(encoder, points)
    assert np.array_equal(inside, ~np.isnan(expected[:, 0])) and not inside.all()
    features = names["features"].numpy()[names["batch"].point_voxel[inside]]
    np.testing.assert_allclose(features, expected[inside], rtol=1e-4, atol=1e-5)


def test_openpcdet_gets_every_weight(trained_encoder: Path, tmp_path: Path, work: Work, encoder: VoxelNet) -> None:
    config = ExportConfig(format="openpcdet")
    export.run(config, {"student": trained_encoder}, work, RUNTIME)
    assert sorted(path.name for path in work.folder.iterdir()) == ["README.md", "config.json", "openpcdet.pth"]
    other = load_backbone(work.folder / "openpcdet.pth", VOXELNET, torch.device("cpu"))
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    card = (work.folder / "README.md").read_text()
    for words in ("VOXEL_SIZE: [0.5, 0.5, 0.25]", "not those of `VoxelBackBone8x`", "3; (4, 5, 6, 7); 8"):
        assert words in card, words
    with Store(tmp_path / "again").claim("export", key_of({})) as again:
        export.run(config, {"student": trained_encoder}, again, RUNTIME)
        assert (again.folder / "openpcdet.pth").read_bytes() == (work.folder / "openpcdet.pth").read_bytes()


def test_a_u_net_has_no_place_in_openpcdet(trained: Path, work: Work) -> None:
    with pytest.raises(InputError, match="a U-Net, and a VoxelNet is needed"):
        export.run(ExportConfig(format="openpcdet"), {"student": trained}, work, RUNTIME)
    assert not list(work.folder.iterdir())


def test_the_published_widths_are_called_so() -> None:
    assert "as published." in model_card(KITTI_VOXELNET, 288, 1, TRAINED, "openpcdet")
    assert "not those" not in model_card(KITTI_VOXELNET, 288, 1, TRAINED, "openpcdet")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (TRAINED, "generated by the toolkit"),
        ({"data": "nuscenes v1.0-trainval", "student": TRAINED}, "non-commercial"),
        ("weights a.safetensors", "not recorded"),
    ],
)
def test_licence_follows_the_data(record: Any, words: str) -> None:
    card = model_card(NETWORK, 5, 1000, record)
    assert words in card.split("## Licence")[1].split("## Loading")[0]


def test_a_fine_tuned_model_shows_where_it_began() -> None:
    card = model_card(NETWORK, 5, 1000, {"data": "nuscenes", "labels": "1%", "student": TRAINED})
    assert "- labels: 1%\n- student:\n  - data: built-in world" in card


def test_weights_from_elsewhere_are_refused(tmp_path: Path, student: SparseUNet, work: Work) -> None:
    path = tmp_path / "student.pth"
    torch.save(student.state_dict(), path)
    with pytest.raises(InputError, match=r"does not say which network.*--from KEY"):
        export.run(ExportConfig(), {"student": path}, work, RUNTIME)
    assert not list(work.folder.iterdir())


def test_damaged_weights_are_refused(trained: Path, work: Work) -> None:
    path = trained / "student.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot read"):
        export.run(ExportConfig(), {"student": trained}, work, RUNTIME)


@pytest.fixture
def clouds() -> list[NDArray[np.float32]]:
    """Four frames: training, two for validation with a bad point each, and one for validation with no good point."""
    found = [cloud(count, seed) for seed, count in enumerate((50, 70, 40, 3))]
    found[1][5, 0], found[2][0, 2], found[3][:, 1] = np.nan, np.inf, np.nan
    return found


@pytest.fixture
def frames(tmp_path: Path, clouds: list[NDArray[np.float32]]) -> Path:
    folder = tmp_path / "frames"
    none = Pairs(np.empty(0, np.int32), np.empty(0, np.uint8), np.empty((0, 2), np.float32), np.empty(0, np.float32))
    empty = {
        "intrinsics": np.empty((0, 3, 3), np.float32),
        "camera_from_lidar": np.empty((0, 4, 4)),
        "ego_from_camera": np.empty((0, 4, 4)),
        "sparse_depth": np.empty((0, 1, 1), np.float32),
    }
    scenes = ["00", "08", "08", "08"]
    made = [
        Frame(token=f"{scene}/{i:06d}", scene=scene, point=points, pairs=none, **empty)
        for i, (scene, points) in enumerate(zip(scenes, clouds, strict=True))
    ]
    attributes = {"dataset": "semkitti", "version": None, "built_in_world": False}
    write_frames(part_path(folder, 0), made, attributes)
    lists = {"train": ("00",), "val": ("08",)}
    write_splits(folder, {"paper": lists, "parametrize": lists})
    return folder


def test_features_of_every_point_of_the_split(
    trained: Path, frames: Path, clouds: list[NDArray[np.float32]], student: SparseUNet, work: Work
) -> None:
    config = ExportFeaturesConfig(dataset="semkitti", split="val")
    metrics = export_features.run(config, {"student": trained, "frames": frames}, work, RUNTIME)
    assert metrics == {"frames": 3, "points": 113, "points_not_finite": 5}
    with h5py.File(work.folder / "features.h5") as file:
        assert file["point_offset"][:].tolist() == [0, 70, 110, 113]
        assert file["token"].asstr()[:].tolist() == ["08/000001", "08/000002", "08/000003"]
        assert file["scene"].asstr()[:].tolist() == ["08"] * 3
        assert file["feature"].dtype == np.float16
        found = file["feature"][:].astype(np.float32)
        attributes = dict(file.attrs)
    expected = np.concatenate([features_of(student, points) for points in clouds[1:3]])
    np.testing.assert_allclose(found[:110], expected, rtol=1e-3, atol=1e-4)
    assert np.isnan(found[110:]).all() and np.isnan(found[[5, 70]]).all()
    assert attributes["voxel_size_m"] == 0.5 and attributes["split"] == "paper val" and attributes["data"] == "semkitti"
    assert json.loads(attributes["student"]) == TRAINED and "point_offset" in attributes["layout"]


def test_a_voxelnets_features_of_every_point(
    trained_encoder: Path, frames: Path, clouds: list[NDArray[np.float32]], encoder: VoxelNet, work: Work
) -> None:
    config = ExportFeaturesConfig(dataset="semkitti", split="val")
    metrics = export_features.run(config, {"student": trained_encoder, "frames": frames}, work, RUNTIME)
    expected = np.concatenate([encoder_features_of(encoder, points) for points in clouds[1:]])
    nowhere = np.isnan(expected[:, 0])
    assert 5 < nowhere.sum() < 60, "some finite points lie off the range"
    assert metrics == {"frames": 3, "points": 113, "points_without_voxel": int(nowhere.sum())}
    with h5py.File(work.folder / "features.h5") as file:
        found = file["feature"][:].astype(np.float32)
        attributes = dict(file.attrs)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    assert attributes["voxel_size_m"].tolist() == [0.5, 0.5, 0.25]
    assert "outside the student's range" in attributes["layout"]


def test_features_are_the_same_twice_and_a_left_over_file_is_replaced(trained: Path, frames: Path, work: Work) -> None:
    config = ExportFeaturesConfig(dataset="semkitti", split="all")
    path = work.folder / "features.h5"
    path.write_bytes(b"cut off")
    contents = []
    for _ in range(2):
        export_features.run(config, {"student": trained, "frames": frames}, work, RUNTIME)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
