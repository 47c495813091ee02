"""KITTI on the command line: where it lies, what can't be done with it, and pictures with its boxes."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cache.store import Store
from hvd.cli.boxes import DETECTED, LABELLED, UNKNOWN, find_boxes
from hvd.cli.options import find_source
from hvd.datasets.kitti import open_kitti
from hvd.datasets.kitti_files import write_objects
from hvd.datasets.prepared import Frames
from hvd.errors import UsageError
from hvd.geometry.boxes import corners, lidar_from_rect_boxes
from hvd.geometry.camera import project
from stages import plans
from stages.plans import Source
from stages.recipes import load
from stages.runner import Runner
from stages.runtime import Runtime
from tests.cli.small_store import code, run, run_json
from tests.datasets.tiny_kitti import write_kitti


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HVD_KITTI", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path / "kitti")


def prepared(root: Path, store: Store) -> Path:
    """Frames and images in the store, which is all that a picture needs; the path of the frames."""
    recipe, source = load("smoke", dataset="kitti"), Source("kitti", root)
    runner = Runner(store, Runtime(device="cpu", workers=0, recipe="smoke"))
    runner.run(plans.images(recipe, source))
    return runner.run(plans.frames(recipe, source)).artifact.path


def test_world_asks_for_the_built_in_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hvd.toml").write_text(f'[data]\nkitti = "{root}"\n')
    assert find_source("kitti", Path("world"), None).root is None
    monkeypatch.setenv("HVD_KITTI", "world")
    assert find_source("kitti", None, None).root is None
    with pytest.raises(UsageError, match="is of real data"):
        find_source("nuscenes", Path("world"), "v1.0-mini")


def test_where_it_lies(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_source("kitti", None, None).root is None
    Path("hvd.toml").write_text(f'[data]\nkitti = "{root}"\n')
    assert find_source("kitti", None, None).root == root
    monkeypatch.setenv("HVD_KITTI", str(tmp_path / "elsewhere"))
    with pytest.raises(Exception, match="elsewhere"):
        find_source("kitti", None, None)
    assert find_source("kitti", root, None) == Source("kitti", root)
    with pytest.raises(UsageError, match="nuscenes, semkitti, kitti"):
        find_source("waymo", None, None)


@pytest.mark.parametrize("recipe", ["paper", "smoke"])
def test_dry_run_of_prep_names_boxes_for_labels(root: Path, tmp_path: Path, recipe: str) -> None:
    rows = run_json(Store(tmp_path / "store"), "prep", "kitti", "--root", root, "--recipe", recipe, "--dry-run")
    stages = [row["stage"] for row in rows]
    assert stages[:4] == ["frames", "boxes", "images", "superpixels"] and "labels" not in stages
    assert all(row["frames"] == 4 for row in rows)


def test_a_wrong_root_is_named(tmp_path: Path) -> None:
    result = run(Store(tmp_path / "store"), "prep", "kitti", "--root", tmp_path)
    assert code(result) == 3 and "training/velodyne" in str(result.exception)


def test_skip_bad_leaves_out_an_image_without_a_header(root: Path, tmp_path: Path) -> None:
    (root / "training" / "image_2" / "000002.png").write_bytes(b"no PNG")
    arguments = ("prep", "kitti", "--root", root, "--recipe", "smoke", "--device", "cpu")
    result = run(Store(tmp_path / "store"), *arguments)
    assert code(result) == 3 and "000002.png" in str(result.exception)
    stages = {
        item["stage"]: item for item in run_json(Store(tmp_path / "store"), *arguments, "--skip-bad")["artifacts"]
    }
    assert stages["frames"]["metrics"]["skipped"] == 1
    assert {stages[name]["metrics"]["frames"] for name in ("frames", "boxes", "images", "superpixels")} == {3}


def test_a_setting_may_name_the_stage(root: Path, tmp_path: Path) -> None:
    arguments = ("finetune", "kitti", "--from", "scratch", "--root", root, "--recipe", "smoke", "--dry-run")
    plans = [
        run_json(Store(tmp_path / "store"), *arguments, "--set", f"{name}.steps=3")
        for name in ("finetune-detection", "finetune.kitti")
    ]
    assert plans[0] == plans[1] and plans[0][-1]["steps"] == 3


def test_the_test_part_is_a_data_set_of_its_own(root: Path, tmp_path: Path) -> None:
    """And lies beside the other or alone, whatever nuScenes version hvd.toml names."""
    store, options = Store(tmp_path / "store"), ("--recipe", "smoke", "--device", "cpu")
    assert code(run(store, "finetune", "kitti", "--from", "scratch", "--root", root, *options)) == 0
    Path("hvd.toml").write_text('[data]\nversion = "v1.0-mini"\n')
    test = ("eval", "kitti", "--split", "test", "--root", root, *options)
    missing = run(store, *test)
    assert code(missing) == 3 and "no test part of kitti" in str(missing.exception)
    assert code(run(store, "eval", "kitti", "--set", "eval-detection.split=test", "--root", root, *options)) == 2
    assert code(run(store, "eval", "kitti", "--root", root, *options)) == 0
    (scored,) = store.artifacts("eval-detection")
    (trained_on,) = store.artifacts("frames")
    (root / "training").rename(root / "testing")
    shutil.rmtree(root / "testing" / "label_2")
    found = run(store, *test)
    assert code(found) == 0 and not found.stdout, "there are no figures to print"
    unlabelled = run(store, "finetune", "kitti", "--version", "testing", "--from", "scratch", "--root", root, *options)
    assert code(unlabelled) == 2 and "nothing is labelled in kitti at" in str(unlabelled.exception)
    _, item = store.artifacts("eval-detection")
    assert len(list((item.path / "results" / "data").iterdir())) == 4
    drawing = ("draw", "-o", tmp_path / "a.png", "--frame", 1, "--results")
    early = run(store, *drawing, item.path / "results")
    again = f"run: hvd prep kitti --recipe smoke --root {root} --version testing"
    assert code(early) == 3 and again in str(early.exception)
    assert code(run(store, "prep", "kitti", "--version", "testing", "--root", root, *options)) == 0
    assert code(run(store, "prep", "kitti", "--version", "Testing", "--root", root, *options)) == 2
    drawn = run_json(store, *drawing, item.path / "results")
    assert (drawn["token"], drawn["frames"]) == ("000001", store.artifacts("frames")[-1].key)
    other = run(store, "draw", trained_on.key, *drawing[1:], item.path / "results")
    assert code(other) == 2 and "of other frames" in str(other.exception)
    missing = run(store, *drawing, scored.path / "results")
    assert code(missing) == 3 and f"no images of the data behind frames {trained_on.key[:8]}" in str(missing.exception)


def test_a_command_that_is_to_be_run_first_is_named_with_root_and_recipe(root: Path, tmp_path: Path) -> None:
    """And what a root holds needs no naming to export a student."""
    store = Store(tmp_path / "store")
    for command in (("eval", "kitti"), ("eval", "kitti", "--split", "all")):
        result = run(store, *command, "--root", root, "--recipe", "smoke")
        assert code(result) == 3 and f"run: hvd finetune kitti --root {root} --recipe smoke" in str(result.exception)
    student = run(store, "finetune", "kitti", "--root", root, "--recipe", "smoke")
    assert "run: hvd pretrain --student voxelnet --root FOLDER --recipe smoke; FOLDER is one of nuScenes" in str(
        student.exception
    )
    result = run(store, "export", "--root", root, "--recipe", "smoke")
    assert code(result) == 3 and "no pretrain artifact of recipe smoke" in str(result.exception)


def draw(root: Path, store: Store, out: Path, *options: object) -> Any:
    prepared(root, store)
    return run(store, "draw", "--frame", 1, "-o", out, *options)


def count(path: Path, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour below the title, which names the colours."""
    return int((np.asarray(Image.open(path))[44:] == np.asarray(colour, np.uint8)).all(-1).sum())


def results_of(root: Path, folder: Path) -> Path:
    """The labels of every frame as detections, moved 3 m away, twice: with scores of 0.5 and 0.7."""
    folder.mkdir(parents=True)
    data = open_kitti(root)
    for sample in data.samples:
        cars = data.read_objects(sample).of("Car").take([0, 0])
        moved = cars.box3d + np.array([0, 0, 0, 0, 0, 3.0, 0])
        found = replace(cars, box3d=moved, score=np.array([0.5, 0.7]))
        write_objects(folder / f"{sample.token}.txt", found)
    return folder


def test_labels_and_detections_are_drawn(root: Path, tmp_path: Path) -> None:
    store, out = Store(tmp_path / "store"), tmp_path / "a.png"
    prepared(root, store)
    assert run_json(store, "draw", "--frame", 1, "-o", out)["boxes"] == 1
    assert count(out, LABELLED) > 100 and count(out, UNKNOWN) > 50 and not count(out, DETECTED)
    results = results_of(root, tmp_path / "results" / "data")
    for folder in (results, results.parent):
        assert run_json(store, "draw", "--frame", 1, "-o", out, "--results", folder)["boxes"] == 3
        assert count(out, LABELLED) > 100 and count(out, DETECTED) > 100
    assert run_json(store, "draw", "-o", out, "--results", results, "--min-score", 0.6)["boxes"] == 2
    assert run_json(store, "draw", "-o", out, "--results", results, "--min-score", 0.9)["boxes"] == 1
    assert not count(out, DETECTED)


def test_boxes_are_drawn_from_the_store_when_the_data_set_has_moved(root: Path, tmp_path: Path) -> None:
    store, out = Store(tmp_path / "store"), tmp_path / "a.png"
    prepared(root, store)
    recipe = load("smoke", dataset="kitti")
    Runner(store, Runtime(device="cpu", workers=0)).run(plans.boxes(recipe, Source("kitti", root)))
    root.rename(tmp_path / "moved")
    assert run_json(store, "draw", "--frame", 1, "-o", out)["boxes"] == 1
    assert count(out, LABELLED) > 100


def test_without_labels_there_are_no_boxes(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    for path in (root / "training" / "label_2").iterdir():
        path.unlink()
    assert code(draw(root, Store(tmp_path / "store"), out)) == 0
    assert not count(out, LABELLED)


def test_bad_boxes_are_named(root: Path, tmp_path: Path) -> None:
    store, results = Store(tmp_path / "store"), results_of(root, tmp_path / "results")
    (results / "000001.txt").write_text((root / "training" / "label_2" / "000001.txt").read_text())  # without scores
    result = draw(root, store, tmp_path / "a.png", "--results", results)
    assert code(result) == 3 and "000001.txt, line 1" in str(result.exception)
    (results / "000001.txt").unlink()
    result = run(store, "draw", "--frame", 1, "-o", tmp_path / "a.png", "--results", results)
    assert code(result) == 3 and "no detections of frame 000001" in str(result.exception)
    assert "detections of 3 frames, 000000 to 000003" in str(result.exception)
    (root / "training" / "calib" / "000001.txt").unlink()
    assert code(run(store, "draw", "--frame", 1, "-o", tmp_path / "a.png")) == 3


def test_boxes_lie_where_the_labels_put_them(root: Path, tmp_path: Path) -> None:
    """The corners against the conversion that detection uses, and their pixels against `project`."""
    shown = Frames(prepared(root, Store(tmp_path / "store"))).frame(1)
    data = open_kitti(root)
    car = data.read_objects(data.samples[1]).of("Car")
    (group,), (areas, lines) = find_boxes(root / "training", None, None, shown)
    upright = corners(lidar_from_rect_boxes(car.box3d, data.read_calibration(data.samples[1]).rect_from_lidar))
    np.testing.assert_allclose(group.corners_lidar.mean(1), upright.mean(1), atol=1e-9)
    np.testing.assert_allclose(group.corners_lidar, upright, atol=0.12)  # a box that leans against one that doesn't
    uv, _ = project(group.corners_lidar[0], shown.camera_from_lidar[0], shown.intrinsics[0])
    assert lines.names[0][0] == "Car" and len(lines.ends) == 12
    np.testing.assert_allclose(lines.ends.min((0, 1)), uv.min(0), atol=1e-2)
    np.testing.assert_allclose(lines.ends.max((0, 1)), uv.max(0), atol=1e-2)
    assert areas.ends.reshape(-1, 2).min(0).tolist() == [1, 2] and areas.ends.reshape(-1, 2).max(0).tolist() == [5, 6]


def test_results_are_for_kitti(tmp_path: Path) -> None:
    from tests.cli.test_draw import frames_artifact

    store = Store(tmp_path / "store")
    other = frames_artifact(store, angles=())
    assert code(run(store, "draw", other.key, "-o", tmp_path / "a.png", "--results", tmp_path)) == 2
    newest = run(store, "draw", "-o", tmp_path / "a.png", "--results", tmp_path)
    assert code(newest) == 3 and "hvd prep kitti" in str(newest.exception)


def test_recorded_boxes_hold_points_of_objects(real_data: Any, tmp_path: Path) -> None:
    """The boxes that are drawn: each recorded object's outline covers its 2D box about as the benchmark's does."""
    root = real_data("kitti")
    data = open_kitti(root)
    shown = Frames(prepared(root, Store(tmp_path / "store"))).frame(4)
    (group,), lines = find_boxes(root / "training", None, None, shown)
    known = data.read_objects(data.samples[4]).of("Car")
    assert group.names == known.types
    for row, box in enumerate(known.box2d):
        uv, _ = project(group.corners_lidar[row], shown.camera_from_lidar[0], shown.intrinsics[0])
        np.testing.assert_allclose([*uv.min(0), *uv.max(0)], box, atol=3)
    assert len(lines[0].ends) == 4 * len(data.read_objects(data.samples[4]).of("DontCare"))
