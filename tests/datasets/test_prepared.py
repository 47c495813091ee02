"""Prepared parts: what is written is read, by us and by zarr; what is damaged is refused, by the file's name."""

import json
import shutil
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr

from hvd.datasets import prepared
from hvd.datasets.prepared import Arrays, Frame, Frames, Labels, part_path, write_arrays, write_frames, write_labels
from hvd.errors import CorruptError, InputError
from hvd.geometry.camera import Pairs

ATTRIBUTES = {"dataset": "nuscenes", "version": "v1.0-mini", "cameras": ["CAM_FRONT"], "image_size": [1600, 900]}


def make_frame(number: int, points: int, cameras: int = 2, pairs: int | None = None) -> Frame:
    rng = np.random.default_rng(number)
    count = points // 2 if pairs is None else pairs
    return Frame(
        token=f"tökén {number}",
        scene=f"scene-{number // 2:04d}",
        point=rng.normal(size=(points, 4)).astype(np.float32),
        pairs=Pairs(
            np.sort(rng.integers(0, max(points, 1), count)).astype(np.int32),
            rng.integers(0, max(cameras, 1), count).astype(np.uint8),
            rng.uniform(0, 900, (count, 2)).astype(np.float32),
            rng.uniform(1, 60, count).astype(np.float32),
        ),
        intrinsics=rng.normal(size=(cameras, 3, 3)).astype(np.float32),
        camera_from_lidar=rng.normal(size=(cameras, 4, 4)),
        ego_from_camera=rng.normal(size=(cameras, 4, 4)),
        sparse_depth=rng.uniform(size=(cameras, 5, 7)).astype(np.float32),
    )


def assert_same(got: Frame, expected: Frame) -> None:
    assert (got.token, got.scene) == (expected.token, expected.scene)
    for name in ("point", "intrinsics", "camera_from_lidar", "ego_from_camera", "sparse_depth"):
        assert_same_array(getattr(got, name), getattr(expected, name))
    for name in ("point", "camera", "uv", "depth"):
        assert_same_array(getattr(got.pairs, name), getattr(expected.pairs, name))


def assert_same_array(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


FRAMES = [make_frame(number, points) for number, points in enumerate([40, 7, 0, 130, 1, 25, 64])]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts, for reading."""
    folder = tmp_path_factory.mktemp("written")
    write_frames(part_path(folder, 0), FRAMES[:4], ATTRIBUTES)
    write_frames(part_path(folder, 1), FRAMES[4:], ATTRIBUTES)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Two parts, for damaging."""
    shutil.copytree(written, tmp_path / "frames")
    return tmp_path / "frames"


def test_round_trip(written: Path) -> None:
    frames = Frames(written)
    assert len(frames) == 7
    assert frames.tokens == tuple(frame.token for frame in FRAMES)
    assert frames.scenes == tuple(frame.scene for frame in FRAMES)
    assert frames.num_points.tolist() == [40, 7, 0, 130, 1, 25, 64]
    assert frames.num_pairs.tolist() == [20, 3, 0, 65, 0, 12, 32]
    assert frames.attributes == {"schema": 1, **ATTRIBUTES}
    for i in (6, 0, 3, 2, 4, 1, 5):
        assert_same(frames.frame(i), FRAMES[i])


@pytest.mark.parametrize("index", [-1, 7])
def test_no_such_frame(written: Path, index: int) -> None:
    with pytest.raises(IndexError):
        Frames(written).frame(index)


def test_without_cameras_and_without_pairs(tmp_path: Path) -> None:
    blind = make_frame(0, 12, cameras=0, pairs=0)
    write_frames(part_path(tmp_path, 0), [blind, make_frame(1, 0, cameras=0, pairs=0)], {})
    assert_same(Frames(tmp_path).frame(0), blind)
    assert len(Frames(tmp_path).frame(1).point) == 0


def test_arrays_may_be_written_to(written: Path) -> None:
    """What is read belongs to the reader: torch complains of read-only memory."""
    frames = Frames(written)
    frame = frames.frame(0)
    frame.point[:] = 0
    frame.pairs.uv[:] = 0
    assert_same(frames.frame(0), FRAMES[0])


def test_any_zarr_reader_opens_it(written: Path) -> None:
    """The schema, as zarr itself sees it."""
    group = zarr.open_group(part_path(written, 0), mode="r")
    expected = {
        "token": ((4,), "O"),
        "scene": ((4,), "O"),
        "point_offset": ((5,), "<i8"),
        "pair_offset": ((5,), "<i8"),
        "point": ((177, 4), "<f4"),
        "pair_point": ((88,), "<i4"),
        "pair_camera": ((88,), "|u1"),
        "pair_uv": ((88, 2), "<f4"),
        "pair_depth": ((88,), "<f4"),
        "intrinsics": ((4, 2, 3, 3), "<f4"),
        "camera_from_lidar": ((4, 2, 4, 4), "<f8"),
        "ego_from_camera": ((4, 2, 4, 4), "<f8"),
        "sparse_depth": ((4, 2, 5, 7), "<f4"),
    }
    found = {name: (array.shape, np.asarray(array[:]).dtype.str.replace("|O", "O")) for name, array in group.arrays()}
    assert found == expected
    np.testing.assert_array_equal(group["point"][:], np.concatenate([frame.point for frame in FRAMES[:4]]))
    assert group["token"][:].tolist() == [frame.token for frame in FRAMES[:4]]
    assert group.metadata.zarr_format == 3


def test_labels(tmp_path: Path) -> None:
    labels = [np.arange(count, dtype=np.uint16) + 250 for count in (5, 0, 300, 2)]
    write_labels(part_path(tmp_path, 0), labels[:3])
    write_labels(part_path(tmp_path, 1), labels[3:])
    stored = Labels(tmp_path)
    assert len(stored) == 4
    for i, label in enumerate(labels):
        assert_same_array(stored[i], label)
    with pytest.raises(IndexError):
        stored[4]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_arrays(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(0).uniform(0, 255, (5, 2, 3, 4)).astype(dtype)
    write_arrays(part_path(tmp_path, 0), "image", values[:2], {"size": [4, 3]})
    write_arrays(part_path(tmp_path, 1), "image", iter(values[2:]), {"size": [4, 3]})  # one at a time
    stored = Arrays(tmp_path, "image")
    assert len(stored) == 5
    assert stored.item_shape == (2, 3, 4)
    assert stored.attributes["size"] == [4, 3]
    for i in range(5):
        assert_same_array(stored[i], values[i])
    np.testing.assert_array_equal(zarr.open_group(part_path(tmp_path, 1), mode="r")["image"][:], values[2:])


def test_zeros_are_written(tmp_path: Path) -> None:
    """A chunk that holds nothing but zeros has its file, so that a missing one is always an error."""
    write_arrays(part_path(tmp_path, 0), "image", np.zeros((3, 2, 2), np.uint8), {})
    files = sorted(path.name for path in (part_path(tmp_path, 0) / "image").iterdir())
    assert files == ["c.0.0.0", "c.1.0.0", "c.2.0.0", "zarr.json"]


def read_everything(folder: Path) -> None:
    frames = Frames(folder)
    for i in range(len(frames)):
        frames.frame(i)


def all_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_flipped_byte_in_any_chunk(folder: Path) -> None:
    chunks = [path for path in all_files(folder) if path.name != "zarr.json"]
    assert len(chunks) > 30
    rng = np.random.default_rng(0)
    for path in chunks:
        good = path.read_bytes()
        for place in {0, len(good) - 1, int(rng.integers(len(good)))}:
            bad = bytearray(good)
            bad[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            with pytest.raises(CorruptError, match=path.name) as caught:
                read_everything(folder)
            assert caught.value.where == path
        path.write_bytes(good)
    read_everything(folder)


@pytest.mark.parametrize("length", [0, 3, 15, -1])
def test_a_truncated_file(folder: Path, length: int) -> None:
    for path in all_files(folder):
        good = path.read_bytes()
        path.write_bytes(good[:length])
        with pytest.raises(CorruptError) as caught:
            read_everything(folder)
        assert caught.value.where == path
        path.write_bytes(good)


def test_a_deleted_file(folder: Path) -> None:
    for path in all_files(folder):
        path.rename(folder.parent / "aside")
        with pytest.raises(CorruptError) as caught:
            read_everything(folder)
        assert caught.value.where == path
        (folder.parent / "aside").rename(path)


def test_a_missing_part(folder: Path) -> None:
    shutil.move(part_path(folder, 0), folder.parent / "aside")
    with pytest.raises(CorruptError, match="part-00000"):
        Frames(folder)
    with pytest.raises(CorruptError, match="part-00000"):
        Labels(folder.parent / "nowhere")


def edit_metadata(folder: Path, name: str, change: dict[str, Any]) -> None:
    path = part_path(folder, 0) / name / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def chunked(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**13, 4], "chunk_grid": chunked(10**13, 4)},
        {"shape": [10**13, 4]},
        {"chunk_grid": chunked(10**9, 4)},
        {"chunk_grid": chunked(9, 4)},
        {"chunk_grid": chunked(0, 4)},
        {"shape": [], "chunk_grid": chunked()},
        {"shape": "x"},
        {"shape": [177, 10**12], "chunk_grid": chunked(1, 10**12)},
        {"shape": [-1, 4]},
        {"data_type": "float64"},
        {"data_type": "object"},
        {"data_type": {}},
        {"codecs": [{"name": "bytes"}]},
        {"codecs": None},
        {"chunk_grid": {}},
    ],
)
def test_metadata_that_lies(folder: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, and before memory is allocated for the claim."""
    largest = 0
    empty = np.empty

    def watched(shape: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        nonlocal largest
        largest = max(largest, int(np.prod(shape, dtype=object)))
        return empty(shape, *args, **kwargs)

    edit_metadata(folder, "point", change)
    monkeypatch.setattr(np, "empty", watched)
    with pytest.raises(CorruptError, match="part-00000"):
        read_everything(folder)
    assert largest < 10_000


@pytest.mark.parametrize(("name", "change"), [("point", {"chunk_grid": chunked(10**8, 4)}), ("token", {})])
def test_a_chunk_that_claims_gigabytes(folder: Path, name: str, change: dict[str, Any]) -> None:
    """Metadata, header and checksum agree on 1.6 GB: still refused before memory is allocated."""
    edit_metadata(folder, name, change)
    path = next((part_path(folder, 0) / name).glob("c.0*"))
    payload = bytearray(path.read_bytes()[:-4])
    payload[4:8] = (16 * 10**8).to_bytes(4, "little")
    path.write_bytes(payload + google_crc32c.value(bytes(payload)).to_bytes(4, "little"))
    with pytest.raises(CorruptError, match="claims"):
        read_everything(folder)


@pytest.mark.parametrize("name", ["", "point", "token"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"attributes": 3}', "\udcff"])
def test_metadata_that_is_none(folder: Path, name: str, text: str) -> None:
    (part_path(folder, 0) / name / "zarr.json").write_bytes(text.encode("utf8", "surrogateescape"))
    with pytest.raises(CorruptError, match=r"part-00000\.zarr.*zarr\.json"):
        read_everything(folder)


def test_a_newer_schema(folder: Path) -> None:
    edit_metadata(folder, "", {"attributes": {"schema": 2}})
    with pytest.raises(InputError, match="version 2"):
        Frames(folder)


def test_offsets_that_disagree(folder: Path) -> None:
    shutil.rmtree(part_path(folder, 0) / "point_offset")
    shutil.copytree(part_path(folder, 0) / "pair_offset", part_path(folder, 0) / "point_offset")
    with pytest.raises(CorruptError, match="differ in length"):
        Frames(folder)


def test_parts_are_immutable_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = part_path(tmp_path, 0)
    (tmp_path / "part-00000.zarr.tmp").mkdir()  # of a process that was killed
    written = 0

    def interrupted(*args: Any) -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "write_array", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_frames(path, FRAMES, ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []
    write_frames(path, FRAMES, ATTRIBUTES)
    with pytest.raises(FileExistsError):
        write_frames(path, FRAMES, ATTRIBUTES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["part-00000.zarr"]


def test_writing_is_deterministic(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_frames(part_path(tmp_path / name, 0), FRAMES, ATTRIBUTES)
    contents = [{p.relative_to(tmp_path / name): p.read_bytes() for p in all_files(tmp_path / name)} for name in "ab"]
    assert contents[0] == contents[1]
