"""Files that nobody should trust: what no reader opens, waits for or believes."""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvd.datasets.nuscenes import open_nuscenes
from hvd.datasets.sample import MAX_POINTS
from hvd.datasets.voxels import voxelize
from hvd.errors import InputError
from tests.conftest import REPOSITORY
from tests.datasets.tiny import VERSION, Record, edit, write_nuscenes


def last(**fields: Any) -> Callable[[list[Record]], None]:
    return lambda rows: rows[-1].update(fields)


def last_key_frame(**fields: Any) -> Callable[[list[Record]], None]:
    return lambda rows: [row for row in rows if row["is_key_frame"]][-1].update(fields)


@pytest.mark.parametrize(
    ("table", "damage", "named"),
    [
        ("scene", last(name="a\x1b[31m"), "name of s1.*plain text"),
        ("scene", last(token="t\n"), "token in plain text"),
        ("sample_data", last_key_frame(filename="samples/\ud800"), "filename.*plain text"),
        ("sample_data", last_key_frame(filename="samples/\0"), "filename.*plain text"),
        ("sample_data", last_key_frame(width=0), "width of s1-0-CAM_BACK-key"),
        ("sample_data", last_key_frame(height=10**30), "height of s1-0-CAM_BACK-key"),
        ("ego_pose", lambda rows: [row.update(translation=[1e300, 0, 0]) for row in rows], "translation of pose"),
        ("lidarseg", last(filename="../../etc/passwd"), "leads out of the data set"),
    ],
)
def test_odd_values_in_tables(tmp_path: Path, table: str, damage: Callable[[list[Record]], object], named: str) -> None:
    root = write_nuscenes(tmp_path / "data")
    edit(root, table, damage)
    with pytest.raises(InputError, match=named) as error:
        open_nuscenes(root, VERSION)
    assert str(error.value).isprintable()


def test_a_field_that_occurs_twice(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path / "data")
    (root / VERSION / "scene.json").write_text('[{"token": "s0", "name": "a", "name": "b"}]')
    with pytest.raises(InputError, match=r"scene\.json.*twice in the record 's0'"):
        open_nuscenes(root, VERSION)


def test_pipes_and_files_of_absurd_size(tmp_path: Path) -> None:
    """Refused by what the file system says, before anything is opened."""
    data = open_nuscenes(write_nuscenes(tmp_path / "data"), VERSION)
    sample = data.samples[0]
    os.truncate(sample.points_path, 20 * (MAX_POINTS + 1))
    with pytest.raises(InputError, match="too large"):
        data.read_points(sample)
    for path in (sample.points_path, sample.cameras[0].path):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        data.read_points(sample)
    with pytest.raises(InputError, match="not a regular file"):
        data.read_image(sample.cameras[0])


def test_an_intensity_that_is_not_finite_spoils_no_voxel() -> None:
    voxels = voxelize(np.zeros((3, 3)), np.array([0.5, np.nan, np.inf]), 0.1)
    assert voxels.point_voxel.tolist() == [0, -1, -1]
    assert voxels.feature.tolist() == [[0.5]]


def test_nothing_reads_hdf5_or_npy() -> None:
    """HDF5 may name other files, and npy may hold pickles: the toolkit writes the one and reads neither."""
    opened = []
    for path in (file for package in ("hvd", "stages", "cache") for file in (REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("h5py.File", "np.load", "numpy.load"):
                opened.append(ast.unparse(node))
    assert opened == ["h5py.File(path, 'w')"]
