"""The commands as typed, from an empty store, on the built-in world; and what they answer to bad input."""

import json
import struct

import h5py
import numpy as np
import pytest
from safetensors import safe_open

from cache.store import Store
from hvd.datasets.fingerprint import fingerprint
from stages.report import png, similarity_maps
from stages.similarity import similarity, student_behind

SMOKE = ("--recipe", "smoke")


def test_the_commands_as_typed(hvd, hvd_json, tmp_path):
    prep = hvd_json("prep", "nuscenes", *SMOKE)
    assert {item["stage"] for item in prep["artifacts"]} == {
        *("world", "frames", "labels", "images", "superpixels", "features")
    }
    pretrain = hvd_json("pretrain", "--views", "ipv,bev", *SMOKE)
    assert pretrain["state"] == "run"
    assert pretrain["metrics"]["steps"] == 2
    assert all(item["state"] == "hit" for item in pretrain["artifacts"] if item["stage"] != "pretrain")

    tuned = hvd_json("finetune", "semkitti", "--labels", "50%", *SMOKE)
    assert tuned["metrics"]["labelled_frames"] > 1
    scored = hvd_json("eval", "semkitti", "--predictions", *SMOKE)
    assert 0 <= scored["metrics"]["miou"] <= 100

    exported = hvd_json("export", "--out", str(tmp_path / "out"), *SMOKE)
    assert exported["stage"] == "export"
    with safe_open(tmp_path / "out" / "student.safetensors", framework="np") as file:
        assert "voxel_size_m" in json.loads(file.metadata()["config"])
    hvd("export", "features", "--dataset", "semkitti", "--out", str(tmp_path / "out"), *SMOKE)
    with h5py.File(tmp_path / "out" / "features.h5") as file:
        assert len(file["token"]) > 0

    assert hvd_json("pretrain", "--views", "ipv,bev", *SMOKE)["state"] == "hit"


def test_reproduce_prints_a_table_and_then_finds_everything(hvd, hvd_json, tmp_path):
    first = hvd_json("reproduce", *SMOKE, "--out", str(tmp_path))
    cells = json.loads((tmp_path / "table.json").read_text())["cells"]
    rows = {cell["row"] for cell in cells}
    assert rows == {"random init", "random init, batch norm re-estimated", "IPV", "IPV + BEV"}
    assert {cell["column"] for cell in cells} == {
        *("nuScenes-like linear probe", "nuScenes-like 2-frames", "64-beam 2-frames")
    }
    assert all("built-in world" in cell["protocol"] for cell in cells)
    again = hvd_json("reproduce", *SMOKE)
    assert again["key"] == first["key"]
    assert {item["state"] for item in again["artifacts"]} == {"hit"}
    assert "random init" in hvd("reproduce", *SMOKE).stdout


def test_each_cell_of_the_table_leads_to_the_fingerprint_of_its_data(hvd_json, workplace):
    table = hvd_json("reproduce", *SMOKE)
    cells = json.loads((workplace / table["path"] / "table.json").read_text())["cells"]
    shown = hvd_json("show", table["key"], "--lineage")
    named = {row["what"]: row["note"] for row in shown if row["depth"] == 1}
    assert named == {cell["key"]: f"{cell['row']}, {cell['column']}, seed {cell['seed']}" for cell in cells}
    expected = set()
    for folder in {row["what"] for row in shown if row["stage"] == "world"}:
        root = next((workplace / ".hvd" / "world").glob(f"??/{folder}"))
        kind = ("nuscenes", "v1.0-world") if (root / "v1.0-world").is_dir() else ("semkitti", None)
        expected |= {fingerprint(root, *kind, part) for part in ("frames", "labels")}
    assert {row["digest"] for row in shown if row["stage"] == "world"} == expected and len(expected) == 4


def test_only_what_depends_on_the_bev_weight_is_planned_again(hvd, hvd_json):
    hvd("reproduce", *SMOKE)
    plan = hvd_json("reproduce", "--dry-run", *SMOKE, "--set", "pretrain.bev.weight=0.9")
    states = [(step["stage"], step["state"]) for step in plan]
    assert {state for stage, state in states if stage in ("world", "frames", "labels", "features")} == {"hit"}
    assert sorted(state for stage, state in states if stage == "pretrain") == ["hit", "run"]
    runs = [stage for stage, state in states if state == "run"]
    assert sorted(set(runs)) == ["eval", "finetune", "pretrain", "table"]
    assert runs.count("finetune") == 3  # the probe and one seed on each data set, of one row


def test_planning_and_help_load_no_torch(workplace, hvd):
    hvd("reproduce", *SMOKE)
    script = (
        "import sys\nfrom hvd.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert not {'torch', 'spconv', 'nuscenes'} & set(sys.modules), 'torch was loaded'\n"
    )
    import subprocess
    import sys

    for arguments in (["--help"], ["reproduce", *SMOKE], ["reproduce", "--dry-run", *SMOKE], ["status"], ["ls"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=workplace, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout} {done.stderr}"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("prep", "nuscenes", "--root", "/no/such/root"), 3, "no such folder"),
        (("prep", "atlantis"), 2, "valid: nuscenes, semkitti"),
        (("pretrain", "--set", "pretrain.bev.wieght=1"), 2, "did you mean pretrain.bev.weight?"),
        (("pretrain", "--views", "ipv,top"), 2, "views"),
        (("pretrain", "--recipe", "huge"), 2, "unknown recipe"),
        (("finetune", "semkitti", "--labels", "abc"), 2, "1%"),
        (("finetune", "semkitti", "--labels", "0%"), 2, "1%"),
        (("finetune", "semkitti", "--labels", "200%"), 2, "1%"),
        (("finetune", "semkitti", "--from", "no/such.pt"), 3, "no such weights file"),
        (("finetune", "semkitti", "--from", "feedfeed"), 3, "feedfeed"),
        (("export",), 3, "run: hvd pretrain"),
        (("pretrain", "--recipe", "paper"), 3, "untrained=true"),
        (("eval", "nuscenes", "--nonsense"), 2, "--nonsense"),
        (("eval", "nuscenes", "--seed", "1"), 2, "--seed"),
        (("prep", "nuscenes", "--version", "v1.0-mini"), 2, "pass --root too"),
        (("prep", "nuscenes", "--device", "mps"), 2, "unknown device 'mps'"),
        (("ls", "--store", "/dev/null"), 2, "not a folder: /dev/null"),
        (("verify",), 3, "no such store"),
        (("status", "--check"), 3, "no such store"),
        (("pretrain", "--set", "pretrain.range_m=51"), 2, "127.5 cells"),
        (("pretrain", "--set", "pretrain.z_min_m=5"), 2, "is not below"),
        (("pretrain", "--set", "pretrain.height=64", "--set", "features.height=64"), 2, "superpixels"),
        (("eval", "nuscenes", "--set", "eval.range_edges_m=[40,20]"), 2, "rising order"),
        (("table", "--out", "/dev/null"), 2, "not a folder: /dev/null"),
        (("table", "--set", "pretrain.epochs=3"), 2, "set pretrain.steps"),
        (("export", "--out", "/dev/null/here"), 2, "not a folder: /dev/null"),
        (("report", "-o", "no/such/page.html"), 2, "no such folder"),
        (("world", "--audit", "--recipe", "paper"), 2, "choose --recipe mini"),
        (("draw", "-o", "frame.png", "--min-score", "0.5"), 2, "name their folder: --results"),
    ],
)
def test_bad_input_gets_one_line_and_the_right_code(hvd, tmp_path, arguments, code, message):
    done = hvd(*arguments, code=code, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("manifest.json"))


def test_the_version_needs_no_command(hvd):
    assert hvd("--version").stdout.startswith("hvd 0.")


def test_a_broken_data_set_is_named_and_nothing_is_published(hvd, real_data, tmp_path):
    import shutil

    root = tmp_path / "nuscenes"
    shutil.copytree(real_data("nuscenes"), root, copy_function=shutil.copy)
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    options = ("--root", str(root), "--version", "v1.0-mini", "--recipe", "mini")
    sweep = next((root / "samples" / "LIDAR_TOP").iterdir())
    whole = sweep.read_bytes()

    sweep.write_bytes(whole[:-7])
    assert sweep.name in hvd("prep", "nuscenes", *options, code=3, cwd=tmp_path).stderr
    sweep.write_bytes(whole)

    table = root / "v1.0-mini" / "ego_pose.json"
    records = table.read_text()
    table.unlink()
    assert "ego_pose" in hvd("prep", "nuscenes", *options, code=3, cwd=tmp_path).stderr
    table.write_text(records)

    assert (
        "v1.0-test"
        in hvd("prep", "nuscenes", "--root", str(root), "--version", "v1.0-test", code=3, cwd=tmp_path).stderr
    )
    assert not list(tmp_path.rglob("manifest.json"))
    assert struct.calcsize("<5f") == 20


def test_no_label_reaches_pre_training(hvd, hvd_json, workplace, tmp_path):
    """Deleting every label file changes no pre-training key and no byte."""
    worlds = hvd_json("world", "--out", str(tmp_path / "world"), *SMOKE)
    assert worlds["artifacts"]
    root = tmp_path / "world" / "nuscenes"
    options = ("pretrain", "--root", str(root), "--version", "v1.0-world", *SMOKE)
    with_labels = hvd_json(*options)
    for path in [*(root / "lidarseg").rglob("*.bin"), root / "v1.0-world" / "lidarseg.json"]:
        path.unlink()
    without = hvd_json(*options, "--store", str(tmp_path / "store"))
    assert without["key"] == with_labels["key"]
    digests = []
    for outcome in (with_labels, without):
        folder = workplace / outcome["path"]
        digests.append((folder / "files.json").read_bytes())
    assert digests[0] == digests[1]


def test_a_point_is_compared_with_what_its_student_was_taught_by(hvd_json, workplace):
    """From the artifacts alone: the student behind an evaluation, and its maps over an image and the ground."""
    hvd_json("reproduce", *SMOKE)
    store = Store(workplace / ".hvd")
    cells = json.loads((store.newest("table").path / "table.json").read_text())["cells"]
    student = student_behind(store, next(cell["key"] for cell in cells if cell["row"] == "IPV + BEV"))
    assert student.key_inputs["config"]["views"] == ["ipv", "bev"]
    assert student_behind(store, next(cell["key"] for cell in cells if cell["row"] == "random init")) is None

    found = similarity(store, student, row=1, camera=0)
    width, height = found.size
    assert found.image.shape[1] / found.image.shape[0] == pytest.approx(width / height, rel=0.05)
    assert found.pixels.shape == (height // 4, width // 4)
    assert np.abs(found.pixels).max() <= 1 + 1e-6
    assert np.nanmax(np.abs(found.cells)) <= 1 + 1e-6 and np.isnan(found.cells).any()
    assert max(map(abs, found.place)) < found.reach_m
    assert png(similarity_maps(found)).startswith(b"\x89PNG")
