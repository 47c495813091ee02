"""KITTI's label, result and calibration files: what they hold, and one clear error for what they must not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hvd.datasets.kitti_files import (
    TYPES,
    Calibration,
    Objects,
    format_calibration,
    format_objects,
    read_calibration,
    read_labels,
    read_results,
    write_objects,
)
from hvd.errors import InputError
from tests.datasets.tiny_kitti import CALIBRATION, CAR, DONT_CARE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "000007.txt"


def test_labels(path: Path) -> None:
    path.write_text(f"{CAR}\n\n{DONT_CARE}\n")
    objects = read_labels(path)
    assert objects.types == ("Car", "DontCare")
    assert objects.occlusion.tolist() == [0, -1]
    assert objects.truncation.tolist() == [0.0, -1.0]
    assert objects.alpha.tolist() == [-1.5, -10.0]
    assert objects.box2d[0].tolist() == [10, 12, 30, 36]
    assert objects.box3d[0].tolist() == [1.5, 1.8, 4.0, -2.0, 1.6, 12.0, -1.57]
    assert objects.score is None
    assert objects.of("Car").types == ("Car",)
    assert len(objects.take([])) == 0
    assert objects.take(np.array([False, True])).types == ("DontCare",)


def test_results(path: Path) -> None:
    path.write_text(f"{CAR} 0.75\n")
    result = read_results(path)
    assert result.score is not None and result.score.tolist() == [0.75]
    path.write_text("")
    assert len(read_results(path)) == 0, "a frame without detections"
    path.write_text(CAR.replace("Car", "car").replace("1.50 1.80 4.00", "-1 -1 -1") + " 1e-3")
    assert read_results(path).types == ("Car",), "any case, and in 2D alone"


def change(line: str, field: int, value: str) -> str:
    words = line.split()
    words[field] = value
    return " ".join(words)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (change(CAR, 0, "Carr"), "unknown class 'Carr'"),
        (CAR + " 0.9", "wrong number of fields.*16, expected 15"),
        (CAR.rsplit(" ", 1)[0], "wrong number of fields.*14, expected 15"),
        (CAR + " 1 2", "wrong number of fields.*17, expected 15"),
        ("Car", "wrong number of fields.*1, expected 15"),
        (change(CAR, 8, "0.00"), "box without size"),
        (change(CAR, 10, "-1"), "box without size"),
        (CAR.replace("1.50 1.80 4.00", "-1 -1 -1"), "box without size"),
        (change(CAR, 3, "nan"), "alpha.*nan"),
        (change(CAR, 13, "inf"), "line 2, z.*inf"),
        (change(CAR, 13, "1,5"), "line 2, z.*1,5"),
        (change(CAR, 2, "0.5"), "occlusion.*0.5"),
        (change(CAR, 2, "4"), "occlusion.*4"),
        (change(CAR, 2, "1e300"), "occlusion.*1e300"),
        (change(CAR, 6, "9.00"), "2D box turned round"),
    ],
)
def test_bad_labels(path: Path, line: str, says: str) -> None:
    path.write_text(f"{CAR}\n{line}\n{CAR}\n")
    with pytest.raises(InputError, match=says) as error:
        read_labels(path)
    assert f"{path}, line 2" in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (CAR, "15, expected 16.*needs a score"),
        (CAR + " nan", "score.*nan"),
        (CAR + " -inf", "score.*-inf"),
        (CAR + " high", "score.*high"),
        (CAR + " 0.5 0.5", "17, expected 16"),
        (change(CAR, 9, "0.0") + " 0.5", "box without size"),
        (change(CAR, 0, "Bus") + " 0.5", "unknown class 'Bus'"),
    ],
)
def test_bad_results(path: Path, line: str, says: str) -> None:
    path.write_text(f"{CAR} 0.5\n{line}\n")
    with pytest.raises(InputError, match=says) as error:
        read_results(path)
    assert f"{path}, line 2" in str(error.value)


def test_files_that_are_none(path: Path) -> None:
    with pytest.raises(InputError, match=r"000007\.txt.*No such file"):
        read_labels(path)
    path.write_bytes(b"Car \xff\xfe")
    with pytest.raises(InputError, match=r"no text file.*000007\.txt.*byte 4"):
        read_labels(path)


@pytest.mark.parametrize("seed", range(3))
def test_any_bytes_are_read_or_refused(seed: int, path: Path) -> None:
    """A label with some bytes replaced at random: never another error than ours, and it names the file."""
    rng = np.random.default_rng(seed)
    refused: list[str] = []
    for _ in range(60):
        data = bytearray(f"{CAR}\n{DONT_CARE}\n".encode())
        for place in rng.integers(0, len(data), rng.integers(0, 4)):
            data[place] = rng.choice(list(b" \n-.eE0_:naif\x00\r\xff,"))
        path.write_bytes(data)
        try:
            read_labels(path)
        except InputError as error:
            refused.append(str(error))
    assert 5 < len(refused) < 60
    assert all(f"{path}, line " in message or "no text file" in message for message in refused)


def random_objects(rng: np.random.Generator, count: int) -> Objects:
    low = rng.uniform(0, 1000, (count, 2))
    box3d = np.concatenate([rng.uniform(0.02, 12, (count, 3)), rng.uniform(-80, 80, (count, 4))], axis=1)
    return Objects(
        types=tuple(rng.choice(TYPES, count)),
        truncation=rng.random(count),
        occlusion=rng.integers(0, 4, count),
        alpha=rng.uniform(-3, 3, count),
        box2d=np.concatenate([low, low + rng.uniform(0.1, 200, (count, 2))], axis=1),
        box3d=box3d,
        score=rng.normal(0, 5, count).astype(np.float32).astype(np.float64),
    )


@pytest.mark.parametrize("scored", [True, False])
def test_written_and_read(path: Path, scored: bool) -> None:
    objects = random_objects(np.random.default_rng(0), 50)
    objects = objects if scored else replace(objects, score=None)
    write_objects(path, objects)
    again = (read_results if scored else read_labels)(path)
    assert again.types == objects.types
    np.testing.assert_array_equal(again.occlusion, objects.occlusion)
    for name in ("truncation", "alpha", "box2d", "box3d"):
        np.testing.assert_allclose(getattr(again, name), getattr(objects, name), atol=0.005 + 1e-9)
    if scored:
        np.testing.assert_allclose(again.score, objects.score, rtol=1e-8)


def test_writing_keeps_boxes_readable(path: Path) -> None:
    objects = random_objects(np.random.default_rng(1), 2)
    objects.box3d[0, :3] = 1e-4
    write_objects(path, objects)
    assert read_results(path).box3d[0, :3].tolist() == [0.01] * 3
    objects.box3d[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        format_objects(objects)


def test_dont_care_is_written_as_it_is_read(path: Path) -> None:
    path.write_text(DONT_CARE)
    before = read_labels(path)
    write_objects(path, before)
    np.testing.assert_array_equal(read_labels(path).box3d, before.box3d)


def write_calibration(path: Path, **changed: list[float] | None) -> None:
    lines = {key: values for key, values in (CALIBRATION | changed).items() if values is not None}
    path.write_text("".join(f"{key}: {' '.join(map(str, values))}\n" for key, values in lines.items()))


def test_calibration_is_exact(path: Path) -> None:
    """P2 R0_rect Tr_velo_to_cam p, written out, against K (R p + t)."""
    write_calibration(path)
    calibration = read_calibration(path)
    points = np.random.default_rng(0).uniform(-20, 20, (100, 3))
    p2, r0, tr = (np.array(CALIBRATION[key]) for key in ("P2", "R0_rect", "Tr_velo_to_cam"))
    homogeneous = np.concatenate([points, np.ones((100, 1))], axis=1)
    rect = (r0.reshape(3, 3) @ tr.reshape(3, 4) @ homogeneous.T).T
    expected = p2.reshape(3, 4) @ np.concatenate([rect, np.ones((100, 1))], axis=1).T
    pose = calibration.camera_from_lidar
    found = calibration.intrinsics @ (pose[:3, :3] @ points.T + pose[:3, 3:])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert calibration.intrinsics[2].tolist() == [0, 0, 1]


def test_written_calibration(path: Path) -> None:
    write_calibration(path)
    before = read_calibration(path)
    path.write_text(format_calibration(before))
    after = read_calibration(path)
    np.testing.assert_allclose(after.image_from_rect, before.image_from_rect, rtol=1e-10)
    np.testing.assert_allclose(after.rect_from_lidar, before.rect_from_lidar, atol=1e-10)
    assert isinstance(after, Calibration)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"P2": None}, "missing calibration.*no line P2"),
        ({"R0_rect": None}, "missing calibration.*no line R0_rect"),
        ({"Tr_velo_to_cam": None}, "missing calibration.*no line Tr_velo_to_cam"),
        ({"P2": [1.0] * 11}, "line 1, P2.*11 values, expected 12"),
        ({"R0_rect": [0.0] * 9}, "no rotation.*line 2, R0_rect"),
        ({"Tr_velo_to_cam": [*CALIBRATION["Tr_velo_to_cam"][:11], float("nan")]}, "line 3, Tr_velo_to_cam.*nan"),
        ({"P2": [0.0, *CALIBRATION["P2"][1:]]}, "no camera.*line 1, P2"),
        ({"P2": [*CALIBRATION["P2"][:10], 2.0, 0.0]}, "no camera.*line 1, P2"),
    ],
)
def test_bad_calibration(path: Path, changed: dict[str, list[float] | None], says: str) -> None:
    write_calibration(path, **changed)
    with pytest.raises(InputError, match=says) as error:
        read_calibration(path)
    assert str(path) in str(error.value)
