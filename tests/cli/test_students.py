"""Which student a command takes, by kind, on a store of small artifacts: nothing is trained here."""

import shutil
from pathlib import Path

import pytest

from cache.artifact import Artifact
from cache.store import Store
from stages.recipes import load
from tests.cli.small_store import code, publish, run, run_json


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def students(store: Store) -> dict[str, Artifact]:
    """A U-Net, then, newer, a VoxelNet."""
    made = {}
    for kind in ("unet", "voxelnet"):
        config = load("smoke", student=kind).pretrain.only_views().resolved()  # type: ignore[arg-type]
        made[kind] = publish(store, "pretrain", config, recipe="smoke")
    return made


def test_segmentation_takes_the_newest_u_net(store: Store, students: dict[str, Artifact]) -> None:
    result = run(store, "finetune", "semkitti", "--recipe", "smoke", "--dry-run")
    assert code(result) == 0
    assert f"from the newest: pretrain {students['unet'].key[:8]}" in result.output


def test_the_newest_of_the_same_origin_is_taken(store: Store, students: dict[str, Artifact]) -> None:
    config = load("smoke").pretrain.with_(seed=7).only_views().resolved()
    real = publish(store, "pretrain", config, recipe="smoke", data={"nuscenes": "/data/nuscenes"})
    result = run(store, "finetune", "semkitti", "--recipe", "smoke", "--dry-run")
    assert f"from the newest: pretrain {students['unet'].key[:8]}" in result.output
    shutil.rmtree(students["unet"].path)
    result = run(store, "finetune", "semkitti", "--recipe", "smoke", "--dry-run")
    assert code(result) == 3 and real.key[:8] in str(result.exception)
    assert "run: hvd pretrain --root world --recipe smoke; or pass --root, or name" in str(result.exception)


def test_a_voxelnet_is_refused_for_segmentation_before_anything_runs(
    store: Store, students: dict[str, Artifact]
) -> None:
    result = run(store, "finetune", "semkitti", "--recipe", "smoke", "--from", students["voxelnet"].key)
    assert code(result) == 3
    assert "a VoxelNet, and a U-Net is needed" in str(result.exception) and "\n" not in str(result.exception)
    assert not store.artifacts("frames")


def test_export_takes_the_newest_of_either_and_for_openpcdet_a_voxelnet(
    store: Store, students: dict[str, Artifact]
) -> None:
    newest = f"from the newest: pretrain {students['voxelnet'].key[:8]}"
    for more in ((), ("--format", "openpcdet")):
        result = run(store, "export", "--recipe", "smoke", "--dry-run", *more)
        assert code(result) == 0 and newest in result.output
    refused = run(store, "export", "--recipe", "smoke", "--format", "openpcdet", "--from", students["unet"].key)
    assert code(refused) == 3 and "a U-Net, and a VoxelNet is needed" in str(refused.exception)


def test_a_kind_that_is_not_there_is_asked_for_by_command(store: Store) -> None:
    publish(store, "pretrain", load("smoke").pretrain.only_views().resolved(), recipe="smoke")
    result = run(store, "export", "--recipe", "smoke", "--format", "openpcdet")
    assert code(result) == 3
    assert "no pretrain artifact of a VoxelNet of recipe smoke" in str(result.exception)
    assert "hvd pretrain --student voxelnet" in str(result.exception)


def test_what_it_costs_is_said_for_either(store: Store, students: dict[str, Artifact]) -> None:
    for kind, channels in (("unet", 48), ("voxelnet", 16 + 32 + 32 + 64)):
        plan = run_json(store, "export", "features", "--recipe", "smoke", "--dry-run", "--from", students[kind].key)
        (row,) = (row for row in plan if row["stage"] == "export-features")
        (frames,) = (row for row in plan if row["stage"] == "frames")
        assert row["frames"] and frames["frames"] and row["size_bytes"] % (channels * 2) == 0
        points = row["size_bytes"] / (channels * 2) / row["frames"]
        assert points == 32 * load("smoke").world.nuscenes.lidar_columns
    plan = run_json(store, "pretrain", "--student", "voxelnet", "--recipe", "smoke", "--dry-run")
    assert (plan[-1]["stage"], plan[-1]["frames"], plan[-1]["steps"]) == ("pretrain", 8, 2)


def test_it_is_shown_with_its_configuration(store: Store, students: dict[str, Artifact]) -> None:
    shown = run_json(store, "show", students["voxelnet"].key)
    assert shown["config"]["student"]["range_max_m"] == [51.2, 51.2, 3.8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pretrain", "--student", "pointnet"), "unknown student 'pointnet'.*unet, voxelnet"),
        (("export", "--format", "onnx"), "bad value for format.*safetensors"),
        (("export", "features", "--format", "openpcdet"), "--format is of weights"),
    ],
)
def test_wrong_options_are_named(store: Store, arguments: tuple[str, ...], message: str) -> None:
    result = run(store, *arguments, "--recipe", "smoke", "--dry-run")
    assert code(result) == 2
    with pytest.raises(Exception, match=message):
        raise result.exception  # type: ignore[misc]
