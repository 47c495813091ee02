"""Fingerprints: what moves them and what must not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hvd.datasets.fingerprint import check_layout, fingerprint, has_labels
from hvd.datasets.listing import list_frames
from hvd.datasets.semantickitti import open_semantickitti
from hvd.errors import InputError
from tests.datasets.tiny import VERSION, edit, write_nuscenes, write_semantickitti


@pytest.fixture
def nuscenes(tmp_path: Path) -> Path:
    return write_nuscenes(tmp_path / "nuscenes")


@pytest.fixture
def semkitti(tmp_path: Path) -> Path:
    return write_semantickitti(tmp_path / "semkitti")


def both(root: Path) -> tuple[str, str]:
    return fingerprint(root, "nuscenes", VERSION), fingerprint(root, "nuscenes", VERSION, "labels")


def test_is_sha256_and_does_not_depend_on_the_place(nuscenes: Path, tmp_path: Path) -> None:
    frames, labels = both(nuscenes)
    assert len(frames) == len(labels) == 64
    assert frames != labels
    copy = tmp_path / "élsewhere"
    shutil.copytree(nuscenes, copy)
    link = tmp_path / "link"
    link.symlink_to(copy)
    assert both(copy) == both(link) == (frames, labels)
    assert fingerprint(nuscenes, "nuscenes", VERSION) == fingerprint(nuscenes / "maps" / "..", "nuscenes", VERSION)


def grow_points(root: Path) -> None:
    path = next((root / "samples" / "LIDAR_TOP").iterdir())
    path.write_bytes(path.read_bytes() + bytes(20))


def rename_image(root: Path) -> None:
    path = next((root / "samples" / "CAM_BACK").iterdir())
    path.rename(path.with_suffix(".png"))


def edit_pose(root: Path) -> None:
    edit(root, "ego_pose", lambda rows: rows[0].update(timestamp=1))


def bring_splits(root: Path) -> None:
    (root / "splits.json").write_text("{}")


@pytest.mark.parametrize("change", [grow_points, rename_image, edit_pose, bring_splits])
def test_frames_move_it_and_labels_stay(nuscenes: Path, change: Callable[[Path], None]) -> None:
    before = both(nuscenes)
    change(nuscenes)
    frames, labels = both(nuscenes)
    assert frames != before[0]
    assert labels == before[1]


def delete_labels(root: Path) -> None:
    shutil.rmtree(root / "lidarseg")


def delete_one(root: Path) -> None:
    next((root / "lidarseg" / VERSION).iterdir()).unlink()


def edit_categories(root: Path) -> None:
    edit(root, "category", lambda rows: rows[0].update(description="x"))


@pytest.mark.parametrize("change", [delete_labels, delete_one, edit_categories])
def test_labels_never_reach_the_frames(nuscenes: Path, change: Callable[[Path], None]) -> None:
    before = both(nuscenes)
    change(nuscenes)
    frames, labels = both(nuscenes)
    assert frames == before[0]
    assert labels != before[1]


def test_contents_only_when_asked(nuscenes: Path) -> None:
    sizes = fingerprint(nuscenes, "nuscenes", VERSION)
    contents = fingerprint(nuscenes, "nuscenes", VERSION, contents=True)
    path = next((nuscenes / "samples" / "LIDAR_TOP").iterdir())
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    assert fingerprint(nuscenes, "nuscenes", VERSION) == sizes != contents
    assert fingerprint(nuscenes, "nuscenes", VERSION, contents=True) != contents


def test_semkitti(semkitti: Path) -> None:
    frames, labels = (fingerprint(semkitti, "semkitti", None, part) for part in ("frames", "labels"))
    assert has_labels(semkitti, "semkitti", None)
    (semkitti / "sequences/00/labels/000001.label").unlink()
    assert fingerprint(semkitti, "semkitti", None) == frames
    assert fingerprint(semkitti, "semkitti", None, "labels") != labels
    (semkitti / "sequences/00/velodyne/000001.bin").unlink()
    assert fingerprint(semkitti, "semkitti", None) != frames


def test_names_with_a_dot_first_are_none_of_the_data_set(nuscenes: Path, semkitti: Path) -> None:
    """As a Mac leaves them behind."""
    before = both(nuscenes), fingerprint(semkitti, "semkitti", None), open_semantickitti(semkitti).samples
    listed = list_frames(semkitti, "semkitti", None).scenes
    for folder in (nuscenes / "samples", nuscenes / "samples" / "LIDAR_TOP", semkitti / "sequences/00/velodyne"):
        (folder / ".DS_Store").touch()
        (folder / "._000000.bin").write_bytes(b"x")
        (folder / ".cache").mkdir()
        (folder / ".cache" / "x").touch()
    assert (both(nuscenes), fingerprint(semkitti, "semkitti", None), open_semantickitti(semkitti).samples) == before
    assert list_frames(semkitti, "semkitti", None).scenes == listed


def test_has_labels(nuscenes: Path) -> None:
    assert has_labels(nuscenes, "nuscenes", VERSION)
    delete_labels(nuscenes)
    assert not has_labels(nuscenes, "nuscenes", VERSION)


@pytest.mark.parametrize("gone", ["", VERSION, f"{VERSION}/sample_data.json", "samples"])
def test_layout_names_what_is_missing(nuscenes: Path, gone: str) -> None:
    check_layout(nuscenes, "nuscenes", VERSION)
    (nuscenes / gone).rename(nuscenes.parent / "moved")
    with pytest.raises(InputError, match=Path(gone or nuscenes).name):
        check_layout(nuscenes, "nuscenes", VERSION)


def test_layout_of_the_wrong_kind(nuscenes: Path, semkitti: Path) -> None:
    with pytest.raises(InputError, match="sequences"):
        check_layout(nuscenes, "semkitti", None)
    with pytest.raises(InputError, match="looked for"):
        check_layout(semkitti, "nuscenes", VERSION)
