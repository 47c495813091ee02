"""KITTI as a data set of the stages: preparation and pre-training on its own camera, in the world and as recorded."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cache.store import Store
from hvd.datasets.fingerprint import has_labels
from hvd.datasets.kitti import open_kitti
from hvd.datasets.listing import list_frames
from hvd.datasets.prepared import Arrays, Frames
from hvd.errors import UsageError
from hvd.geometry.camera import project
from stages import plans
from stages.costs import planned_listing
from stages.plans import Source
from stages.recipe import for_data_set
from stages.recipes import load, mini, paper, smoke
from stages.runner import Runner
from stages.runtime import Runtime
from stages.selection import rows_of, write_splits
from tests.conftest import REPOSITORY
from tests.datasets.tiny_kitti import SIZES, write_kitti

KITTI = Source("kitti")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The smoke world's KITTI, prepared."""
    store = Store(tmp_path_factory.mktemp("store"))
    runner = Runner(store, Runtime(device="cpu", workers=0, recipe="smoke"))
    for step in plans.prep(load("smoke", dataset="kitti"), KITTI):
        runner.run(step)
    return runner


def artifact(runner: Runner, stage: str) -> Path:
    return next(outcome.artifact.path for step, outcome in runner.done.items() if step.stage.name == stage)


def test_prep_makes_everything(runner: Runner) -> None:
    made = {step.stage.name for step in runner.done}
    assert made == {"world", "frames", "boxes", "images", "superpixels", "features"}
    frames = Frames(artifact(runner, "frames"))
    assert len(frames) == 12 and frames.attributes["cameras"] == ["image_2"]
    assert frames.attributes["image_size"] == [208, 64]
    assert (frames.num_pairs > 100).all()
    assert Arrays(artifact(runner, "images"), "image")[0].shape == (1, 40, 128, 3)
    assert Arrays(artifact(runner, "superpixels"), "superpixel")[0].shape == (1, 40, 128)
    assert frames.frame(0).sparse_depth.shape == (1, 10, 32)


def test_frames_hold_what_the_data_set_does(runner: Runner) -> None:
    data = open_kitti(artifact(runner, "world"))
    frame, sample = Frames(artifact(runner, "frames")).frame(5), data.samples[5]
    np.testing.assert_array_equal(frame.point, data.read_points(sample))
    view = sample.cameras[0]
    uv, depth = project(frame.point[frame.pairs.point, :3], view.camera_from_lidar, view.intrinsics)
    np.testing.assert_allclose(frame.pairs.uv, uv, atol=1e-3)
    np.testing.assert_allclose(frame.pairs.depth, depth, atol=1e-4)


def test_splits_are_those_of_the_world(runner: Runner) -> None:
    path = artifact(runner, "frames")
    scenes = Frames(path).scenes
    assert rows_of(path, scenes, "paper", "train") == list(range(8))
    assert rows_of(path, scenes, "paper", "val") == list(range(8, 12))
    assert len(rows_of(path, scenes, "paper", "all")) == 12


def test_a_scene_that_trains_and_is_scored_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_splits(tmp_path, {"paper": {"train": ("a", "b"), "val": ("b", "c")}, "parametrize": {}})
    assert "1 of the scenes that train are scored too; the first: b" in capsys.readouterr().err


def test_the_world_is_listed_before_it_is_made_as_it_is_afterwards(runner: Runner) -> None:
    planned = planned_listing(smoke().world.kitti)
    made = list_frames(artifact(runner, "world"), "kitti", None)
    assert Counter(made.scenes) == Counter(planned.scenes)
    assert made.cameras == planned.cameras == 1
    assert 0.5 * planned.points < made.points <= planned.points
    for kind in ("paper", "parametrize"):
        for split in ("train", "val", "all"):
            assert made.rows(kind, split) == planned.rows(kind, split)


@pytest.mark.parametrize("views", ["ipv", "ipv,bev"])
def test_pretraining_on_its_own_camera(runner: Runner, views: str) -> None:
    recipe = load("smoke", dataset="kitti")
    outcome = runner.run(plans.pretrain(recipe, KITTI, recipe.pretrain.with_(views=views)))
    metrics = outcome.artifact.details["metrics"]
    assert (metrics["frames"], metrics["steps"]) == (8, 2)
    assert np.isfinite([metrics[view] for view in views.split(",")]).all()
    assert (outcome.artifact.path / "student.safetensors").is_file()


def test_one_image_at_a_time_is_too_few_for_the_depth_network(runner: Runner) -> None:
    recipe = load("smoke", None, ["pretrain.batch=1"], "kitti")
    with pytest.raises(UsageError, match="two images"):
        runner.run(plans.pretrain(recipe, KITTI))


def test_no_label_enters_a_key_of_pretraining(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    recipe = load("smoke", dataset="kitti")
    prepared = plans.prep(recipe, Source("kitti", root), with_labels=False)
    frames_and_images = prepared[:2]  # of these all others are made

    def keys() -> list[str | None]:
        return [row.key for row in Runner(Store(tmp_path / "store")).status(frames_and_images)]

    before = keys()
    for path in (root / "training" / "label_2").iterdir():
        path.unlink()
    assert not has_labels(root, "kitti", None)
    assert keys() == before and all(before)


def test_images_of_different_sizes_are_cut_to_one(tmp_path: Path) -> None:
    runner = Runner(Store(tmp_path / "store"), Runtime(device="cpu", workers=0, recipe="smoke"))
    source = Source("kitti", write_kitti(tmp_path / "kitti"))
    frames = Frames(runner.run(plans.frames(smoke(), source)).artifact.path)
    assert frames.attributes["image_size"] == [min(w for w, _ in SIZES), min(h for _, h in SIZES)]
    assert rows_of(runner.done[plans.frames(smoke(), source)].artifact.path, frames.scenes, "paper", "val") == [1, 3]


def test_sizes_of_its_images_are_its_own() -> None:
    for recipe in (paper(), mini(), smoke()):
        wide, usual = for_data_set(recipe, "kitti"), recipe.pretrain
        assert for_data_set(recipe, "nuscenes") == recipe == for_data_set(recipe, "semkitti")
        pretrain = wide.pretrain
        for part in (wide.superpixels, wide.features):
            assert (part.height, part.width) == (pretrain.height, pretrain.width)
        shape = recipe.world.kitti.image_width / recipe.world.kitti.image_height
        assert pretrain.width / pretrain.height == pytest.approx(shape, rel=0.03)
        stride = wide.features.teacher.shape.stride
        assert pretrain.height % stride == pretrain.width % stride == 0
        if pretrain.image_augmentation is not None and usual.image_augmentation is not None:
            ends = zip(pretrain.image_augmentation.ratio, usual.image_augmentation.ratio, strict=True)
            wider = pretrain.width / pretrain.height * usual.height / usual.width
            assert all(one / two == pytest.approx(wider) for one, two in ends)
    assert (
        load(
            "mini", None, [f"{part}.height=64" for part in ("pretrain", "features", "superpixels")], "kitti"
        ).pretrain.height
        == 64
    )


def test_reproduce_makes_nothing_of_it() -> None:
    from stages.graph import Data, in_order
    from stages.reproduce import reproduce

    steps = in_order((reproduce(smoke(), Source("nuscenes"), Source("semkitti")),))
    named = {node.dataset for step in steps for _, node in step.inputs if isinstance(node, Data)}
    assert named == {"nuscenes", "semkitti"}
    assert smoke().world.kitti not in [step.config for step in steps]


def test_recorded_frames(real_data, tmp_path: Path) -> None:
    runner = Runner(Store(tmp_path / "store"), Runtime(device="cpu", workers=0, recipe="smoke"))
    source = Source("kitti", real_data("kitti"))
    path = runner.run(plans.frames(load("smoke", dataset="kitti"), source)).artifact.path
    frames = Frames(path)
    assert frames.tokens == tuple(f"{i:06d}" for i in range(6))
    assert frames.attributes["image_size"] == [1224, 370] and not frames.attributes["built_in_world"]
    assert (frames.num_pairs > 15_000).all()
    assert rows_of(path, frames.scenes, "paper", "train") == [0, 2, 4]


def test_planning_kitti_loads_no_torch() -> None:
    import subprocess
    import sys

    script = (
        "import sys\nfrom stages import plans\nfrom stages.recipes import load\n"
        "recipe, source = load('mini', dataset='kitti'), plans.Source('kitti')\n"
        "plans.prep(recipe, source), plans.pretrain(recipe, source)\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY)
