"""`hvd draw` on small frames artifacts: which frame, which images, which errors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cache.artifact import Artifact
from cache.store import Store
from hvd.cli.draw import arrange, prep_again
from hvd.datasets.prepared import Frame, part_path, write_arrays, write_frames
from hvd.drawing import DEPTH, HEIGHT
from hvd.geometry.camera import Pairs
from tests.cli.small_store import code, publish, run, run_json

SIZE = (320, 160)  # width, height
LEGEND_PX = 44
CAMERAS = ["CAM_BACK", "CAM_FRONT"]
RED, BLUE = (200, 0, 0), (0, 0, 200)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def facing(angle_deg: float) -> NDArray[np.float64]:
    """ego_from_camera of a level camera that looks `angle_deg` to the left of ahead."""
    angle = np.radians(angle_deg)
    ahead, right, down = (np.cos(angle), np.sin(angle), 0), (np.sin(angle), -np.cos(angle), 0), (0, 0, -1)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, down, ahead], axis=1)
    return matrix


def make_frame(token: str, depth: float, angles: list[float]) -> Frame:
    """A frame whose only pair is in its last camera."""
    pairs = [(0, len(angles) - 1, (100.0, 80.0), depth)] if angles else []
    point, camera, uv, depths = zip(*pairs, strict=True) if pairs else ((), (), np.empty((0, 2)), ())
    count = len(angles)
    return Frame(
        token=token,
        scene="scene-0001",
        point=np.array([[5.0, 30.0, 4.5, 0.5], [np.nan, 0, 0, 0]], np.float32),
        pairs=Pairs(
            np.array(point, np.int32),
            np.array(camera, np.uint8),
            np.array(uv, np.float32),
            np.array(depths, np.float32),
        ),
        intrinsics=np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
        camera_from_lidar=np.tile(np.eye(4), (count, 1, 1)),
        ego_from_camera=np.stack([facing(a) for a in angles]) if angles else np.empty((0, 4, 4)),
        sparse_depth=np.zeros((count, 2, 4), np.float32),
    )


def frames_artifact(store: Store, data: str = "a" * 64, angles: tuple[float, ...] = (180.0, 0.0)) -> Artifact:
    dataset = "nuscenes" if angles else "semkitti"
    attributes = {"dataset": dataset, "cameras": CAMERAS[: len(angles)], "image_size": list(SIZE)}
    frames = [make_frame(f"t{depth:g}", depth, list(angles)) for depth in (5.0, 20.0)]
    return publish(
        store,
        "frames",
        {"dataset": dataset},
        {"data": data},
        lambda f: write_frames(part_path(f, 0), frames, attributes),
        metrics={"frames": len(frames)},
    )


def images_artifact(store: Store, data: str, colour: tuple[int, int, int], frames: int = 2) -> Artifact:
    def write(folder: Path) -> None:
        images = np.zeros((frames, 2, 40, 80, 3), np.uint8) + np.array(colour, np.uint8)
        write_arrays(part_path(folder, 0), "image", images, {})

    return publish(store, "images", {"colour": list(colour)}, {"data": data}, write, metrics={"frames": frames})


def count(path: Path, colour: object) -> int:
    """Pixels of exactly this colour, the legend at the bottom aside."""
    return int((np.asarray(Image.open(path))[:-LEGEND_PX] == np.asarray(colour, np.uint8)).all(-1).sum())


def test_draws_the_frame_asked_for(store: Store, tmp_path: Path) -> None:
    item = frames_artifact(store)
    images_artifact(store, "a" * 64, RED)
    out = tmp_path / "ü.png"
    found = run_json(store, "draw", item.key[:8], "--frame", 1, "-o", out)
    assert (found["path"], found["frames"], found["token"]) == (str(out), item.key, "t20")
    assert count(out, DEPTH.colour(20.0)) == 9 and not count(out, DEPTH.colour(5.0))
    assert count(out, HEIGHT.colour(4.5)) == 5  # the finite point, from above


def test_images_are_those_of_the_same_data(store: Store, tmp_path: Path) -> None:
    """Of two sets of images, the newer is of other data."""
    item, out = frames_artifact(store), tmp_path / "frame.png"
    images_artifact(store, "a" * 64, RED)
    images_artifact(store, "b" * 64, BLUE)
    assert code(run(store, "draw", item.key, "-o", out)) == 0
    dark = [3 * c // 4 for c in RED], [3 * c // 4 for c in BLUE]
    assert count(out, dark[0]) > 100_000 and not count(out, dark[1])


def test_images_of_other_frames_of_the_same_data_are_not_taken(store: Store, tmp_path: Path) -> None:
    """As many as are left where bad frames were skipped."""
    item = frames_artifact(store)
    images_artifact(store, "a" * 64, RED, frames=1)
    assert code(run(store, "draw", item.key, "-o", tmp_path / "frame.png")) == 3


def test_without_a_key_the_newest_frames(store: Store, tmp_path: Path) -> None:
    frames_artifact(store)
    newest = frames_artifact(store, angles=())
    images_artifact(store, "a" * 64, RED)
    assert run_json(store, "draw", "-o", tmp_path / "a.jpg")["frames"] == newest.key


def test_a_frame_without_cameras_needs_no_images(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "kitti.png"
    item = frames_artifact(store, angles=())
    assert run_json(store, "draw", item.key, "-o", out)["pairs"] == 0
    assert count(out, HEIGHT.colour(4.5)) == 5


def test_no_images_says_what_to_run(store: Store, tmp_path: Path) -> None:
    item, out = frames_artifact(store), tmp_path / "frame.png"
    images_artifact(store, "b" * 64, BLUE)
    result = run(store, "draw", item.key, "-o", out)
    assert code(result) == 3 and "hvd prep" in str(result.exception) and not out.exists()


@pytest.mark.parametrize("number", [-1, 2, 1000])
def test_a_frame_that_is_not_there(store: Store, tmp_path: Path, number: int) -> None:
    frames_artifact(store)
    result = run(store, "draw", "--frame", number, "-o", tmp_path / "frame.png")
    assert code(result) == 2 and "frames 0 to 1" in str(result.exception)


def test_wrong_arguments(store: Store, tmp_path: Path) -> None:
    assert code(run(store, "draw", "-o", tmp_path / "a.png")) == 3  # an empty store
    images = images_artifact(store, "a" * 64, RED)
    frames_artifact(store)
    assert code(run(store, "draw", images.key, "-o", tmp_path / "a.png")) == 2
    assert code(run(store, "draw", "-o", tmp_path / "a.gif")) == 2
    assert code(run(store, "draw", "-o", tmp_path / "no" / "a.png")) == 2
    assert code(run(store, "draw")) == 2


def test_a_damaged_artifact_is_named(store: Store, tmp_path: Path) -> None:
    item = frames_artifact(store, angles=())
    chunk = next(path for path in (item.path / "part-00000.zarr" / "point").rglob("*") if path.name != "zarr.json")
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    result = run(store, "draw", "-o", tmp_path / "a.png")
    assert code(result) == 4 and str(item.path) in str(result.exception)


def test_cameras_are_arranged_as_they_surround_the_car() -> None:
    names = {
        "BACK": 180.0,
        "FRONT_RIGHT": -55.0,
        "BACK_LEFT": 110.0,
        "FRONT": 0.3,
        "BACK_RIGHT": -110.0,
        "FRONT_LEFT": 55.0,
    }
    order = [list(names)[k] for k in arrange(make_frame("t", 5.0, list(names.values())))]
    assert order == ["FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT"]


@pytest.mark.parametrize(
    ("sources", "config", "details", "command"),
    [
        ({}, {"version": "v1.0-world"}, {}, "--root world"),  # the world is asked for no version
        ({"data": "/d"}, {"version": "v1.0-mini"}, {}, "--root /d --version v1.0-mini"),
        ({"data": "/d"}, {"skip_bad": True}, {"full_hash": ["data"]}, "--root /d --full-hash --skip-bad"),
    ],
)
def test_the_command_that_prepares_again(sources: Any, config: Any, details: Any, command: str) -> None:
    """As it was typed, as far as that tells data and settings."""
    item: Any = SimpleNamespace(
        key_inputs={"config": {"dataset": "nuscenes", **config}},
        details={"recipe": "mini", "sources": sources, **details},
    )
    assert prep_again(item) == f"hvd prep nuscenes --recipe mini {command}"
