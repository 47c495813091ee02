"""`hvd doctor`: green on a machine that has everything, and each check red when its thing is wrong."""

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from cache.store import Store
from hvd.cli import doctor
from hvd.models import sparse, teacher_config
from tests.cli.small_store import code, run
from tests.datasets.tiny import VERSION, write_nuscenes
from tests.datasets.tiny_kitti import write_kitti

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HVD_NUSCENES", "HVD_SEMKITTI", "HVD_KITTI", "HVD_STORE"):
        monkeypatch.delenv(name, raising=False)


def run_doctor(tmp_path: Path, *arguments: object) -> Result:
    return run(Store(tmp_path / "store"), "doctor", *arguments)


def test_all_is_well_here(tmp_path: Path) -> None:
    result = run_doctor(tmp_path, "--json")
    assert code(result) == 0, result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    needed = {"python", "torch", "numpy", "zarr", "sparse convolution on cpu", "store", "built-in teacher"}
    assert {name for name, check in checks.items() if check["state"] == "ok"} >= needed
    assert checks["torch"]["text"] == metadata.version("torch")
    assert "pytest" not in checks  # an extra: not needed to run
    assert not (tmp_path / "store").exists()


def test_no_data_root_is_a_note(tmp_path: Path) -> None:
    states = {check.name: check.state for check in doctor.data_sets(None, None)}
    assert states == {"nuscenes data": "note", "semkitti data": "note", "kitti data": "note"}


def test_no_gpu_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [(check.name, check.state) for check in doctor.devices()] == [
        ("sparse convolution on cpu", "ok"),
        ("gpu", "note"),
    ]


def test_a_wrong_package_version_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == "zarr" else found(name))
    wrong = [check for check in doctor.packages() if check.state == "fail"]
    assert [check.name for check in wrong] == ["zarr"] and "1.0, needs ==3.1.5" in wrong[0].text
    result = run_doctor(tmp_path)
    assert code(result) == 7 and "zarr" in str(result.exception)


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = metadata.version

    def version(name: str) -> str:
        if name == "h5py":
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(metadata, "version", version)
    assert [check.name for check in doctor.packages() if check.state == "fail"] == ["h5py"]


def test_a_wrong_sparse_convolution_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(sparse.SubmanifoldConv):
        def forward(self, x: Any) -> Any:
            out = super().forward(x)
            feature = out.features.clone()
            feature[0, 0] += 0.1 * feature.abs().max()
            return sparse.replace(out, feature)

    monkeypatch.setattr(sparse, "SubmanifoldConv", Wrong)
    assert doctor.sparse_convolution(CPU).state == "fail"


def test_a_sparse_convolution_that_breaks_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel\nlong trace")

    monkeypatch.setattr(sparse, "sparse_tensor", broken)
    assert doctor.sparse_convolution(CPU) == ("sparse convolution on cpu", "fail", "no kernel")


def test_teacher_weights_are_compared_with_their_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.teacher().state == "ok"
    monkeypatch.setattr(teacher_config, "_BUNDLED_SHA256", "0" * 64)
    assert doctor.teacher().state == "fail"


def test_too_little_room_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.disk(tmp_path / "not" / "there").state == "ok"
    monkeypatch.setattr(doctor, "_WANTED_FREE_BYTES", 1 << 60)
    check = doctor.disk(tmp_path)
    assert check.state == "fail" and "needs 1048576.0 TiB" in check.text


def test_a_data_root_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "kitti"
    (root / "sequences" / "00" / "velodyne").mkdir(parents=True)
    assert [check.state for check in doctor.data_sets(root, None)] == ["fail"]
    (root / "sequences" / "00" / "velodyne" / "000000.bin").touch()
    (check,) = doctor.data_sets(root, None)
    assert check == ("semkitti data", "ok", f"{root} without labels, 1 sweeps and images")
    assert [check.name for check in doctor.data_sets(tmp_path / "absent", None)] == ["nuscenes data"]
    monkeypatch.setenv("HVD_SEMKITTI", str(root))
    monkeypatch.setenv("HVD_NUSCENES", str(root))
    assert [check.state for check in doctor.data_sets(None, None)] == ["fail", "ok", "note"]


def test_a_root_of_objects_is_told_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "training").mkdir()
    (check,) = doctor.data_sets(tmp_path, None)
    assert (check.name, check.state) == ("kitti data", "fail") and "training/velodyne" in check.text
    (tmp_path / "training" / "velodyne").mkdir()
    (tmp_path / "training" / "velodyne" / "000000.bin").touch()
    (tmp_path / "training" / "image_2").mkdir()
    (check,) = doctor.data_sets(tmp_path, None)
    assert check.state == "fail" and "training/calib" in check.text
    shutil.rmtree(tmp_path / "training")
    write_kitti(tmp_path)
    assert list(doctor.data_sets(tmp_path, None)) == [("kitti data", "ok", f"{tmp_path}, 8 sweeps and images")]
    shutil.rmtree(tmp_path / "training" / "label_2")
    (check,) = doctor.data_sets(tmp_path, None)
    assert check == ("kitti data", "ok", f"{tmp_path} without labels, 8 sweeps and images")
    monkeypatch.setenv("HVD_KITTI", str(tmp_path))
    assert [check.state for check in doctor.data_sets(None, None)] == ["note", "note", "ok"]


def test_files_that_key_frames_name_and_that_are_not_there_fail(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path)
    (check,) = doctor.data_sets(root, VERSION)
    assert check == ("nuscenes data", "ok", f"{root} {VERSION}, 12 sweeps and images")
    sweeps = sorted((root / "samples" / "LIDAR_TOP").iterdir())
    for path in sweeps:
        path.unlink()
    (check,) = doctor.data_sets(root, VERSION)
    assert check.state == "fail" and f"{len(sweeps)} of 12 sweeps and images are missing, the first: " in check.text
    assert "--skip-bad" in check.text


def test_real_root(real_data: Any) -> None:
    root = real_data("nuscenes")
    (check,) = doctor.data_sets(root, "v1.0-mini")
    assert check == ("nuscenes data", "ok", f"{root} v1.0-mini, 7 sweeps and images")
    (check,) = doctor.data_sets(root, "v9")
    assert check.state == "fail" and "v9" in check.text
