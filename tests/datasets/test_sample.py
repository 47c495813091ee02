"""Sensor files of any content: read whole, or refused by name; nothing else."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hvd.datasets.sample import CameraView, Sample, read_label_file, read_records, read_rgb
from hvd.errors import InputError

ANY_BYTES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@ANY_BYTES
@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_point_files(tmp_path: Path, data: bytes, fields: int) -> None:
    path = tmp_path / "points.bin"
    path.write_bytes(data)
    if len(data) % (4 * fields):
        with pytest.raises(InputError, match=r"points\.bin"):
            read_records(path, fields)
    else:
        assert read_records(path, fields).tobytes() == data


@ANY_BYTES
@given(st.binary(max_size=60), st.integers(0, 20), st.sampled_from(["u1", "<u4"]))
def test_label_files(tmp_path: Path, data: bytes, num_points: int, dtype: str) -> None:
    path = tmp_path / "points.label"
    path.write_bytes(data)
    sample = Sample("token", "scene", tmp_path / "points.bin", path, ())
    if len(data) == num_points * np.dtype(dtype).itemsize:
        assert read_label_file(sample, num_points, dtype).tobytes() == data
    else:
        with pytest.raises(InputError, match=rf"points\.label.*{num_points} points"):
            read_label_file(sample, num_points, dtype)


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=tmp_path.name):
        read_records(tmp_path, 4)


@settings(ANY_BYTES, max_examples=150)
@given(st.sampled_from(["JPEG", "PNG"]), st.integers(0, 2000), st.binary(max_size=3), st.booleans())
def test_image_files(tmp_path: Path, image_format: str, place: int, patch: bytes, truncated: bool) -> None:
    """A patched or cut image decodes to the size that the tables state, or is refused by name."""
    path = tmp_path / "camera.img"
    pixels = np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, image_format)
    good = path.read_bytes()
    place %= len(good)
    path.write_bytes(good[:place] + (b"" if truncated else patch + good[place + len(patch) :]))
    try:
        image = read_rgb(CameraView("CAM", path, 16, 9, np.eye(3), np.eye(4), np.eye(4)))
    except InputError as error:
        assert error.where == path  # noqa: PT017
    else:
        assert image.shape == (9, 16, 3)
        assert image.dtype == np.uint8
        whole = np.array(Image.open(io.BytesIO(good)))
        assert not truncated or np.array_equal(image, whole), "a cut image passes only if no pixel is lost"
