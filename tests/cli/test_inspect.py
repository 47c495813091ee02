"""The commands that look at artifacts, on stores of a few small ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache.artifact import Artifact
from cache.store import Store
from tests.cli.small_store import Write, code, damage, publish, run, run_json


def test_ls_lists_a_stage_in_order(store: Store, chain: list[Artifact]) -> None:
    run(store, "pin", chain[0].key)
    assert [row["key"] for row in run_json(store, "ls")] == [item.key for item in chain]
    assert [(row["key"], row["pinned"]) for row in run_json(store, "ls", "frames")] == [(chain[0].key, True)]
    line = run(store, "ls", "frames").stdout.splitlines()[1]
    assert line.startswith(chain[0].key[:8]) and "nuscenes: /data/nu" in line and line.endswith("pinned")
    result = run(store, "ls", "frame")
    assert code(result) == 2 and "valid: world, frames" in str(result.exception)


def test_ls_says_what_tells_artifacts_apart(store: Store) -> None:
    def protocol(**values: object) -> Write:
        def write(folder: Path) -> None:
            (folder / "protocol.json").write_text(json.dumps({"length": "400 steps", "seed": 3, **values}))

        return write

    def last(stage: str) -> str:
        return run(store, "ls", stage).stdout.splitlines()[-1].split("mini  ")[1].strip()

    rate = {"optimizer": {"lr": 0.004}}
    pretrain = publish(store, "pretrain", rate, write=protocol(views="ipv+bev", network="VoxelNet"))
    assert last("pretrain") == "ipv+bev, VoxelNet, 400 steps, lr 0.004, seed 3"
    config = {"dataset": "nuscenes", **rate}
    tuned = protocol(labels="1%", linear_probe=True, student={"views": "ipv+bev"})
    model = publish(store, "finetune", config, {"student": pretrain}, tuned)
    assert last("finetune") == f"linear probe, 1% of nuscenes, 400 steps, lr 0.004, seed 3, from {pretrain.key[:8]}"
    publish(store, "finetune", config, write=protocol(labels="5%", linear_probe=False, student="random init"))
    assert last("finetune") == "5% of nuscenes, 400 steps, lr 0.004, seed 3, from random init"
    publish(store, "eval", {}, {"model": model}, metrics={"miou": 12.34})
    assert last("eval") == f"12.3 mIoU of {model.key[:8]}"
    publish(store, "eval-detection", {}, {"model": model}, metrics={"map": None})
    assert last("eval-detection") == f"no mAP of {model.key[:8]}"
    for text in ("{", "[]", "3", '{"length": 1}'):
        (pretrain.path / "protocol.json").write_text(text)
        assert last("pretrain") == "damaged: see hvd verify"


def test_show_holds_inputs_config_and_metrics(store: Store) -> None:
    item = publish(
        store, "eval", {"split": "val"}, {"frames": "f" * 64}, metrics={"miou": 12.5}, command="hvd eval \udcff"
    )
    shown = run_json(store, "show", item.key[:6])
    assert (shown["stage"], shown["key"], shown["config"]) == ("eval", item.key, {"split": "val"})
    assert shown["inputs"] == {"frames": "f" * 64} and shown["metrics"] == {"miou": 12.5}
    text = run(store, "show", item.key[:6]).stdout
    assert "metrics:\n  miou: 12.5\n" in text and "  command: hvd eval \\udcff\n" in text


def test_lineage_reaches_the_data_set_and_follows_each_artifact_once(store: Store, chain: list[Artifact]) -> None:
    frames, labels, pretrain, model = chain
    rows = [
        (row["depth"], row["input"], row["what"], row["note"])
        for row in run_json(store, "show", model.key, "--lineage")
    ]
    assert rows == [
        (0, "", model.key, ""),
        (1, "frames", frames.key, ""),
        (2, "data", "/data/nu", f"fingerprint {'d' * 64}"),
        (1, "labels", labels.key, ""),
        (2, "frames", frames.key, "see above"),
        (1, "student", pretrain.key, ""),
        (2, "frames", frames.key, "see above"),
    ]
    text = run(store, "show", model.key, "--lineage").stdout
    assert f"\n  student: pretrain {pretrain.key[:8]}\n" in text


def test_a_table_leads_from_each_cell_to_the_fingerprint_of_the_data(store: Store, chain: list[Artifact]) -> None:
    first = publish(store, "eval", {"split": "val"}, {"model": chain[3]})
    second = publish(store, "eval", {"split": "all"}, {"model": chain[3]})
    named = [["random init", "nuScenes 1%", 0], ["IPV", "nuScenes 1%", 1]]
    table = publish(store, "table", {"cells": named}, {"cell000": first, "cell001": second})
    shown = run_json(store, "show", table.key)
    assert shown["cells"] == {"cell000": "random init, nuScenes 1%, seed 0", "cell001": "IPV, nuScenes 1%, seed 1"}
    text = run(store, "show", table.key).stdout
    assert (
        f"\n  random init, nuScenes 1%, seed 0: eval {first.key}\n  IPV, nuScenes 1%, seed 1: eval {second.key}\n"
        in text
    )

    rows = run_json(store, "show", table.key, "--lineage")
    assert [(row["what"], row["note"]) for row in rows if row["stage"] == "eval"] == [
        (first.key, "random init, nuScenes 1%, seed 0"),
        (second.key, "IPV, nuScenes 1%, seed 1"),
    ]
    below = rows[[row["what"] for row in rows].index(first.key) :]
    stages = [row["stage"] or row["what"] for row in below]
    assert stages[:4] == ["eval", "finetune", "frames", "/data/nu"]
    assert below[3]["digest"] == "d" * 64 == chain[0].key_inputs["inputs"]["data"]
    assert [row["depth"] for row in below[:4]] == [1, 2, 3, 4]
    assert f"        data: /data/nu  (fingerprint {'d' * 64})" in run(store, "show", table.key, "--lineage").stdout


def test_the_built_in_world_has_a_fingerprint_too(store: Store) -> None:
    world = publish(store, "world")
    frames = publish(store, "frames", {}, {"data": world})
    line = run(store, "show", frames.key, "--lineage").stdout.splitlines()[1]
    assert line == f"  data: world {world.key[:8]}  (fingerprint {world.digest})"


def test_lineage_says_what_is_gone(store: Store, chain: list[Artifact]) -> None:
    (chain[2].path / "manifest.json").unlink()
    rows = run_json(store, "show", chain[3].key, "--lineage")
    assert [row["note"] for row in rows if row["input"] == "student"] == ["not in this store"]


def test_explain_compares_with_the_nearest_other(store: Store) -> None:
    base = {"views": ["ipv"], "bev": {"weight": 0.25, "cells": 10}, "seed": 0}
    near = publish(store, "pretrain", {**base, "seed": 1}, {"frames": "a" * 64})
    publish(store, "pretrain", {**base, "views": ["bev"], "seed": 1}, {"frames": "b" * 64})
    mine = publish(store, "pretrain", {**base, "bev": {"weight": 0.5}}, {"frames": "a" * 64})
    found = run_json(store, "explain", mine.key)
    assert found["nearest"] == near.key
    fields = {row["field"]: (row["this"], row["nearest"]) for row in found["differences"]}
    assert fields == {"config.bev.cells": (None, 10), "config.bev.weight": (0.5, 0.25), "config.seed": (0, 1)}
    assert "config.bev.weight  0.5" in run(store, "explain", mine.key).stdout


def test_explain_alone(store: Store, chain: list[Artifact]) -> None:
    assert run_json(store, "explain", chain[0].key)["nearest"] is None
    assert "only frames artifact" in run(store, "explain", chain[0].key).stderr


def test_verify_finds_a_flipped_bit(store: Store, chain: list[Artifact]) -> None:
    assert code(run(store, "verify")) == 0
    path = damage(chain[2])
    result = run(store, "verify")
    assert code(result) == 4 and result.stdout == f"{path}: altered\n"
    assert code(run(store, "verify", chain[2].key[:8])) == 4
    assert code(run(store, "verify", chain[0].key)) == 0
    assert code(run(store, "verify", "--quick")) == 0  # the size is right
    path.write_bytes(b"short")
    assert code(run(store, "verify", "--quick")) == 4
    printed = json.loads(run(store, "verify", "--json").stdout)
    assert printed["checked"] == 4 and len(printed["problems"]) == 1


def test_verify_finds_a_damaged_manifest(store: Store, chain: list[Artifact]) -> None:
    manifest = chain[0].path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("mini", "maxi"))
    assert code(run(store, "verify")) == 4
    assert code(run(store, "verify", chain[0].key)) == 4


def test_unknown_and_short_keys(store: Store, chain: list[Artifact]) -> None:
    for command in ("show", "explain", "verify", "pin"):
        assert code(run(store, command, "0000")) == 3
        assert code(run(store, command, chain[0].key[:3])) == 3


def test_these_commands_need_no_torch(store: Store, chain: list[Artifact]) -> None:
    program = f"""
import sys
import hvd.cli.main
assert not {{"torch", "numpy", "matplotlib"}} & sys.modules.keys(), "at import"
from hvd.cli.main import app
for command in (["status"], ["ls"], ["show", "{chain[0].key}"], ["explain", "{chain[0].key}"], ["verify"], ["gc"]):
    app([*command, "--store", "{store.root}"], standalone_mode=False)
assert "torch" not in sys.modules, "in a command"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_command_that_does_not_wait_names_who_works(store: Store) -> None:
    plan = json.loads(run(store, "prep", "semkitti", "--recipe", "smoke", "--dry-run", "--json").stdout)
    with store.claim("world", plan[0]["key"]):
        result = run(store, "prep", "semkitti", "--recipe", "smoke", "--no-wait")
    assert code(result) == 5
    owner = f"held by process {os.getpid()} on {os.uname().nodename} since 20"
    assert owner in str(result.exception)


@pytest.mark.parametrize(("damage", "expected"), [("missing", 3), ("cut off", 4), ("altered", 4), ("newer", 3)])
def test_manifests_that_cannot_be_taken(
    store: Store, chain: list[Artifact], monkeypatch: pytest.MonkeyPatch, damage: str, expected: int
) -> None:
    path = chain[0].path / "manifest.json"
    if damage == "missing":
        path.unlink()
    elif damage == "newer":
        monkeypatch.setattr("cache.manifest.SCHEMA", 0)
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-9] if damage == "cut off" else data.replace(b"nuscenes", b"nuscenez"))
    result = run(store, "show", chain[0].key)
    assert code(result) == expected
    assert "\n" not in str(result.exception)
    assert damage != "newer" or "written by a newer version" in str(result.exception)
    assert damage == "missing" or str(path) in str(result.exception)
