"""Keys that no refactoring may move unseen, and what must and must not move them."""

import os
import subprocess
import sys

import pytest

from cache.key import key_of
from stages.inputs import SCHEMA
from stages.recipes import load
from stages.specs import EVAL, FEATURES, FINETUNE, FRAMES, PRETRAIN, SUPERPIXELS
from tests.conftest import REPOSITORY

# If a line below fails, every artifact of that stage in every user's store becomes a miss. Where that is meant, say so
# in the changelog and raise the stage's version.
GOLDEN = {
    "paper frames": "da772edaad90e168",
    "paper superpixels": "8c2aa93493c5fd10",
    "paper pretrain": "18f46222f0651ecd",
    "paper finetune nuscenes": "8d082a5476ef22e7",
    "paper finetune semkitti": "954b5a669a47fc87",
    "mini features": "ffb5183a93f4fb76",
    "mini pretrain ipv": "e18276b260fc9a1e",
    "mini pretrain voxelnet": "baf5bae52ba9654c",
    "paper pretrain voxelnet": "7d51cd2985b295e4",
    "mini probe": "65d770c0d5c991f4",
    "mini eval": "cd238f94d229aed4",
}


def configs() -> dict[str, tuple]:
    paper, mini = load("paper"), load("mini")
    return {
        "paper frames": (FRAMES, paper.frames),
        "paper superpixels": (SUPERPIXELS, paper.superpixels),
        "paper pretrain": (PRETRAIN, paper.pretrain.only_views()),
        "paper finetune nuscenes": (FINETUNE, paper.finetune.nuscenes),
        "paper finetune semkitti": (FINETUNE, paper.finetune.semkitti),
        "mini features": (FEATURES, mini.features),
        "mini pretrain ipv": (PRETRAIN, mini.pretrain.with_(views="ipv").only_views()),
        "mini pretrain voxelnet": (PRETRAIN, load("mini", student="voxelnet").pretrain.only_views()),
        "paper pretrain voxelnet": (PRETRAIN, load("paper", student="voxelnet").pretrain.only_views()),
        "mini probe": (FINETUNE, mini.probe.nuscenes),
        "mini eval": (EVAL, mini.eval),
    }


def key(name: str) -> str:
    stage, config = configs()[name]
    inputs = {"frames": "0" * 64}
    return key_of(
        {"schema": SCHEMA, "stage": stage.name, "version": stage.version, "config": config.resolved(), "inputs": inputs}
    )


@pytest.mark.parametrize("name", sorted(configs()))
def test_golden_keys(name):
    assert key(name)[:16] == GOLDEN[name]


def test_the_same_value_written_otherwise_gives_the_same_key():
    one, two = load("mini", None, ["pretrain.bev.weight=1"]), load("mini", None, ["pretrain.bev.weight=1.0"])
    assert key_of(one.pretrain.resolved()) == key_of(two.pretrain.resolved())


def test_where_weights_lie_does_not_enter_a_key(tmp_path):
    here = load("paper", None, [f"pretrain.teacher.weights={tmp_path / 'a.pth'}"])
    there = load("paper", None, [f"pretrain.teacher.weights={tmp_path / 'b.pth'}"])
    assert here.pretrain.resolved() == there.pretrain.resolved()


@pytest.mark.parametrize("environment", [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C"}])
def test_processes_agree_on_a_key(environment):
    script = "from tests.stages.test_keys import key; print(key('paper pretrain'))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == key("paper pretrain")


def test_spelling_of_paths_and_numbers_locale_and_hash_seed_change_no_key(tmp_path):
    """The command as typed, in processes of their own."""
    from tests.datasets.tiny import write_semantickitti

    root = write_semantickitti(tmp_path / "dätä", {"00": 1, "08": 1})
    (tmp_path / "link").symlink_to(root)
    spellings = (
        (str(root), {"PYTHONHASHSEED": "1"}, "pretrain.bev.weight=1"),
        ("dätä/", {"PYTHONHASHSEED": "2", "LC_ALL": "C"}, "pretrain.bev.weight=1.0"),
        ("dätä/../link", {"PYTHONHASHSEED": "3", "LC_ALL": "POSIX", "TZ": "Asia/Tokyo"}, "pretrain.bev.weight=1e0"),
    )
    plans = []
    command = [sys.executable, "-c", "from hvd.cli.main import main; main()", "prep", "semkitti", "--dry-run", "--json"]
    for spelling, environment, setting in spellings:
        done = subprocess.run(
            [*command, "--recipe", "smoke", "--root", spelling, "--set", setting],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            check=True,
        )
        plans.append(done.stdout)
    assert b'"key": "' in plans[0]
    assert len(set(plans)) == 1
