"""The study's plan and its file: which cells there are, and that what is measured is never measured again or mixed."""

import json
import math
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from cache.store import Store
from hvd.cli.table import set_aside
from hvd.errors import CorruptError, InputError
from stages import plans, results, tuning
from stages.graph import File
from stages.plans import Source
from stages.recipes import load
from stages.report import bars, curves, page, write_markdown
from stages.runner import Outcome
from stages.study import HVDISTILL, IPV, RANDOM, ROWS, Setup, cells, plan_digest
from tests.cli.small_store import publish, run

SOURCES = {name: Source(name) for name in ("nuscenes", "semkitti", "kitti")}
ABOUT = {"command": "hvd table"}
PAIR = (("BEV", 2.0), ("BEV, uniform depth", 0.0))


def setup(name="mini", sets=()):
    return Setup(load(name, None, sets), load(name, None, sets, student="voxelnet"), SOURCES)


@pytest.fixture(scope="module")
def mini():
    return list(cells(setup(), {}))


def test_rows_columns_and_seeds(mini):
    assert len(mini) == 8 * (3 * 5 + 3 * 3) + 2 * 3 + 3 * 3 * 3
    assert len({cell.plan for cell in mini}) == len(mini)
    full = [(cell.row, cell.seed) for cell in mini if cell.column == "nuScenes-like 100%"]
    assert sorted(full) == sorted((row, seed) for row in (RANDOM, HVDISTILL) for seed in range(3))


def test_seed_i_takes_student_i_and_label_offset_i(mini):
    for cell in mini:
        tune = dict(cell.step.inputs)["model"]
        student = dict(tune.inputs).get("student")
        assert tune.config.seed == cell.seed
        assert tune.config.label_offset == (0 if "probe" in cell.column else cell.seed)
        assert (student is None) == (cell.row == RANDOM)
        if student is not None:
            assert student.config.seed == cell.seed


def test_rows_differ_in_what_they_say(mini):
    first = {
        cell.row: dict(dict(cell.step.inputs)["model"].inputs).get("student")
        for cell in mini
        if cell.seed == 0 and "KITTI" not in cell.column
    }
    config = {row: student.config for row, student in first.items() if student is not None}
    assert config["PPKT"].ipv.method == "ppkt"
    assert config["PPKT"].bev is config[IPV].bev is None
    assert config["IPV, time of IPV + BEV"].steps == round(1.5 * config[IPV].steps)
    assert config["BEV"].ipv is None
    assert config["BEV, uniform depth"].bev == config["BEV"].bev.with_(depth="uniform", min_weight=0.0)
    assert config["IPV + BEV, release's geometry"].bev == config[HVDISTILL].bev.with_(geometry="release")
    assert config[HVDISTILL].bev == config["BEV"].bev
    assert set(config) == set(ROWS) - {RANDOM}


def test_detectors_take_a_voxelnet_and_segmentation_a_u_net(mini):
    for cell in mini:
        tune = dict(cell.step.inputs)["model"]
        student = dict(tune.inputs).get("student")
        detects = "KITTI" in cell.column
        assert (tune.stage.name == "finetune-detection") == detects
        assert not detects or cell.row in (RANDOM, IPV, HVDISTILL)
        assert student is None or student.config.student.kind == ("voxelnet" if detects else "unet")


def test_dry_run_says_what_is_left_row_by_row_and_stage_by_stage(tmp_path):
    arguments = ("table", "--recipe", "mini", "--dry-run", "--out", tmp_path / "results")
    result = run(Store(tmp_path / "store"), *arguments)
    assert result.exit_code == 0, result.output
    found = {row: words for row in ROWS for line in result.stdout.splitlines() if (words := numbers(line, row))}
    assert found[RANDOM] == ["20", "36"] and found["PPKT"] == ["12", "24"] and set(found) == set(ROWS)
    made = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line[:1].islower()}
    assert made["world"] == ["3"] and made["pretrain"] == ["41", "17400"]


def numbers(line, row):
    return line.removeprefix(row).split() if line.startswith(f"{row}  ") else None


def test_a_plan_changes_with_anything_below_it(mini):
    other = list(cells(setup(sets=["world.nuscenes.seed=1"]), {}))
    assert not {cell.plan for cell in mini} & {cell.plan for cell in other if "nuScenes" in cell.column}
    same = list(cells(setup(), {}))
    assert [cell.plan for cell in same] == [cell.plan for cell in mini]


def test_a_plan_takes_a_file_by_its_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.pth", "b.pth", "c.pth")]
    for path, data in zip(paths, (b"one", b"one", b"two"), strict=True):
        path.write_bytes(data)
    steps = [plans.export(load("mini").export, File(path)) for path in paths]
    assert plan_digest(steps[0]) == plan_digest(steps[1]) != plan_digest(steps[2])


def value(row: str, column: str, seed: int, miou: float) -> dict:
    named = {
        "row": row,
        "column": column,
        "seed": seed,
        "value": miou,
        "plan": f"{row}{column}{seed}",
        "key": "ab" * 32,
        "machine": "test",
    }
    return {**named, "by_range": {"0-20 m": miou}, "per_class": {"car": miou, "bus": None}, "protocol": "line <1>"}


def test_results_are_read_back_and_shown(tmp_path):
    probe = "nuScenes-like linear probe"
    found = [value(row, probe, seed, base + seed) for row, base in ((IPV, 30.0), (RANDOM, 5.0)) for seed in (1, 0)]
    results.write(tmp_path, found, ABOUT)
    again = results.load(tmp_path)["cells"]
    assert sorted(map(str, again)) == sorted(map(str, found))
    assert [(cell["row"], cell["seed"]) for cell in again] == [(RANDOM, 0), (RANDOM, 1), (IPV, 0), (IPV, 1)]
    text = (tmp_path / "table.md").read_text()
    assert "Made by `hvd table` on test." in text and "| IPV | 30.5 (30.0, 31.0) |" in text
    assert "| IPV | **+25.0 ± 0.0 (2)** |" in text
    assert "Teacher: none yet." in text
    taught = [{**cell, "protocol": "student U-Net ipv on here, teacher resnet50 (moco.pth)"} for cell in found]
    results.write(tmp_path, taught, {**ABOUT, "views": "ipv+bev"})
    text = (tmp_path / "table.md").read_text()
    assert "Teacher: resnet50 (moco.pth)." in text and "The views of the recipe: ipv+bev." in text


def test_records_of_another_plan_are_set_aside_whole(tmp_path, capsys):
    """Also where two rows share a plan: each has its own record."""
    wanted = [cell for cell in cells(setup(), {}) if cell.column == "nuScenes-like 1%" and cell.row in (RANDOM, IPV)]
    twins = [replace(cell, plan="one", step=wanted[0].step) for cell in wanted[:2]]
    found = [{**value(cell.row, cell.column, cell.seed, 20.0), "plan": cell.plan} for cell in (twins[0], wanted[3])]
    found.append({**value("PPKT", "nuScenes-like 1%", 0, 20.0), "plan": "older"})
    results.write(tmp_path, found, ABOUT)
    before = (tmp_path / results.FILE).read_text()
    known = results.load(tmp_path)["cells"]
    kept = results.of_plan(known, [*twins, *wanted])
    assert sorted(cell["plan"] for cell in kept) == sorted(["one", wanted[3].plan])
    assert results.not_in(kept, [*twins, *wanted]) == [twins[1], *(cell for cell in wanted if cell != wanted[3])]
    for _ in range(2):  # the second time there is nothing to set aside
        known = results.load(tmp_path)["cells"]
        kept = results.of_plan(known, [*twins, *wanted])
        set_aside(tmp_path / results.FILE, known, kept, partial(results.write, tmp_path, about=ABOUT))
    assert (tmp_path / "table-1.json").read_text() == before and not (tmp_path / "table-2.json").exists()
    assert results.load(tmp_path)["cells"] == kept
    assert "1 of 3 values" in capsys.readouterr().err
    set_aside(tmp_path / results.FILE, kept, [], partial(results.write, tmp_path, about=ABOUT))
    assert results.load(tmp_path)["cells"] == [] and (tmp_path / "table-2.json").exists()


def test_each_value_keeps_the_machine_it_was_measured_on(tmp_path):
    old = {name: item for name, item in value(IPV, "nuScenes-like 1%", 0, 20.0).items() if name != "machine"}
    (tmp_path / results.FILE).write_text(json.dumps({"schema": 1, **ABOUT, "machine": "a laptop", "cells": [old]}))
    results.write(tmp_path, [*results.load(tmp_path)["cells"], value(RANDOM, "nuScenes-like 1%", 0, 5.0)], ABOUT)
    assert [cell["machine"] for cell in results.load(tmp_path)["cells"]] == ["test", "a laptop"]
    assert "on a laptop and on test." in (tmp_path / "table.md").read_text()


def test_a_value_is_taken_from_an_intact_artifact_alone(tmp_path):
    def write(folder):
        (folder / "metrics.json").write_text(json.dumps({"miou": 21.0, "protocol": "line"}))

    item = publish(Store(tmp_path), "eval", write=write)
    cell = next(cells(setup(), {}))
    tune = publish(Store(tmp_path), "finetune", metrics={"loss": 1.0, "steps": 400, "train_cpu_seconds": 60.5})
    done = {cell.step: Outcome(item, "hit", 0.0), dict(cell.step.inputs)["model"]: Outcome(tune, "hit", 0.0)}
    found = results.record(cell, done)
    assert found["value"] == 21.0
    assert found["trainings"] == {"finetune": {"steps": 400, "train_cpu_seconds": 60.5}}
    path = item.path / "metrics.json"
    path.write_text(path.read_text().replace("21", "81"))
    with pytest.raises(CorruptError, match="damaged eval artifact"):
        results.record(cell, done)


def test_bold_is_what_lies_above_zero_with_its_whole_interval(tmp_path):
    """A table's claim: not where only the mean does."""
    for gains, shown in (((1.0, -0.5, 1.0), "+0.5 ±"), ((1.0, 1.1, 0.9), "**+1.0 ±")):
        found = [value(RANDOM, "nuScenes-like 1%", seed, 5.0) for seed in range(3)]
        found += [value(IPV, "nuScenes-like 1%", seed, 5.0 + gain) for seed, gain in enumerate(gains)]
        results.write(tmp_path, found, ABOUT)
        assert f"| IPV | {shown}" in (tmp_path / "table.md").read_text()


def test_the_table_says_what_single_parts_are_worth(tmp_path):
    column = "nuScenes-like linear probe"
    found = [value(row, column, seed, 20.0 + seed + gain) for row, gain in PAIR for seed in (0, 1)]
    results.write(tmp_path, found, ABOUT)
    text = (tmp_path / "table.md").read_text()
    assert "| BEV minus BEV, uniform depth | **+2.0 ± 0.0 (2)** |" in text and "release" not in text
    results.write(tmp_path, found[:2], ABOUT)
    assert "single parts" not in (tmp_path / "table.md").read_text()


def test_the_table_says_what_pre_training_took(tmp_path):
    effort = {"pretrain": {"steps": 600, "train_seconds": 700.0, "train_cpu_seconds": 612.4}}
    timed = [{**value(IPV, c, 1, 20.0), "trainings": effort} for c in ("nuScenes-like 1%", "64-beam 1%")]
    results.write(tmp_path, [*timed, value(IPV, "64-beam 1%", 0, 20.0)], ABOUT)
    assert "| IPV | 600: 612 | - |" in (tmp_path / "table.md").read_text()
    detector = {**value(IPV, "KITTI-like 5%, mAP", 2, 30.0), "trainings": effort}
    results.write(tmp_path, [*timed, detector], ABOUT)
    assert "| IPV | 600: 612 | 600: 612 |" in (tmp_path / "table.md").read_text()
    results.write(tmp_path, [value(IPV, "64-beam 1%", 0, 20.0)], ABOUT)
    assert "Pre-training" not in (tmp_path / "table.md").read_text(), "nothing was timed"


def test_a_file_of_another_kind_is_refused(tmp_path):
    assert results.load(tmp_path)["cells"] == []
    for text in (
        "{",
        "[]",
        json.dumps({"schema": 99, "cells": []}),
        json.dumps({"schema": 1}),
        '{"schema": 1, "cells": []}',
        '{"schema": 1, "command": "", "machine": "", "cells": [{"row": 1}]}',
        '{"schema": 1, "command": "", "machine": "", "cells": [3]}',
    ):
        (tmp_path / results.FILE).write_text(text)
        with pytest.raises(InputError, match="cannot read the results"):
            results.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"value": None}, "value"),
        ({"value": "20"}, "value"),
        ({"value": math.nan}, "value: .*finite"),
        ({"seed": "1"}, "seed"),
        ({"seed": -1}, "seed"),
        ({"row": "IPW"}, "row: 'IPW' is no row of this version"),
        ({"column": "nuScenes"}, "column: 'nuScenes' is no column"),
        ({"protocol": 3}, "protocol"),
        ({"machine": None}, "machine"),
        ({"per_class": {"car": "1"}}, r"per_class\.car"),
        ({"trainings": {"pretrain": {"steps": "many"}}}, r"trainings\.pretrain\.steps"),
        ({"seed": 0}, "IPV, 64-beam 1%, 0 is there twice"),
    ],
)
def test_a_value_edited_by_hand_is_named(tmp_path, change, named):
    column = "64-beam 1%"
    edited = [value(IPV, column, 0, 20.0), {**value(IPV, column, 1, 20.0), **change}]
    (tmp_path / results.FILE).write_text(json.dumps({"schema": 1, "command": "", "cells": edited}))
    with pytest.raises(InputError, match=rf"cells\[1\].*{named}"):
        results.load(tmp_path)


def test_the_page_shows_every_value_and_needs_no_other_file(tmp_path):
    columns = ("nuScenes-like linear probe", "nuScenes-like 1%", "nuScenes-like 10%")
    base = {RANDOM: 5.0, IPV: 20.0, HVDISTILL: 20.0}
    found = [value(row, c, seed, base[row] + seed) for row in base for c in columns for seed in (0, 1)]
    text = page(found, ABOUT)
    assert text.count("<img") == text.count("data:image/png;base64,") == 4
    assert "http" not in text.replace("http-equiv", "")
    assert "<b>+15.0 ± 0.0 (2)</b>" in text and "<code>hvd table</code>" in text and "**" not in text
    assert text.count("line &lt;1&gt;") == len(found)


def test_the_figures_show_means_dots_and_intervals():
    values = results.by_cell([value(IPV, f"nuScenes-like {share}%", seed, 20.0 + share + seed)
                              for share in (1, 10) for seed in (0, 1, 2)])  # fmt: skip
    (axes,) = bars(values).axes
    assert [bar.get_height() for bar in axes.patches] == [22.0, 31.0]
    assert [y for line in axes.lines for y in line.get_ydata()] == [21.0, 22.0, 23.0, 30.0, 31.0, 32.0]
    (axes,) = curves(values, "nuScenes-like").axes
    (segments,) = [found.get_segments() for found in axes.collections]
    half = 4.302652729911275 / 3**0.5  # of Student's t with two degrees of freedom, for a deviation of 1
    for segment, mean in zip(segments, (22.0, 31.0), strict=True):
        np.testing.assert_allclose(segment[:, 1], [mean - half, mean + half])


def test_the_markdown_page_has_its_pictures_beside_it(tmp_path):
    found = [value(row, "nuScenes-like linear probe", seed, 20.0) for row in (IPV, RANDOM) for seed in (0, 1)]
    write_markdown(tmp_path / "page.md", found, ABOUT)
    text = (tmp_path / "page.md").read_text()
    assert text.count("| line <1> |") == len(found)
    assert f"| {IPV} | nuScenes-like linear probe | 1 | 20.00 | {'ab' * 8} | line <1> |" in text
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == ["page-1.png", "page-2.png", "page-3.png"]
    for name in pictures:
        assert f"({name})" in text
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_every_row_and_column_gets_the_same_trials_and_none_sees_validation():
    recipe = load("mini")
    tries = list(tuning.trials(setup()))
    places = {(item.row, item.column) for item in tries}
    assert places == {(cell.row, cell.column) for cell in cells(setup(), {}) if cell.seed == 0}
    assert len(tries) == len(places) * len(recipe.study.rates)
    for item in tries:
        tune = dict(item.step.inputs)["model"]
        assert item.step.config.splits == tune.config.splits == "parametrize"
        assert tune.config.optimizer.lr / item.rate in (1e-2, 2e-3, 3e-3)
    assert list(tuning.trials(setup("smoke"))) == []


def test_the_table_takes_the_best_rate_and_of_equals_the_recipes_own():
    recipe = load("mini")
    tried = [
        {"row": IPV, "column": column, "rate": rate, "value": miou}
        for column, rate, miou in (
            ("nuScenes-like 1%", 2.0, 30.0),
            ("nuScenes-like 1%", 1.0, 20.0),
            ("nuScenes-like 5%", 2.0, 30.0),
            ("nuScenes-like 5%", 1.0, 30.0),
        )
    ]
    rates = tuning.chosen(recipe, tried)
    assert rates == {(IPV, "nuScenes-like 1%"): 2.0, (IPV, "nuScenes-like 5%"): 1.0}
    chosen = {cell.plan: cell for cell in cells(setup(), rates)}
    usual = {cell.plan: cell for cell in cells(setup(), {})}
    moved = {(cell.row, cell.column) for plan, cell in chosen.items() if plan not in usual}
    assert moved == {(IPV, "nuScenes-like 1%")}


def test_trials_are_read_back_and_the_best_is_shown(tmp_path):
    named = {"row": IPV, "column": "nuScenes-like 1%", "plan": "p", "key": "ab", "machine": "test"}
    tried = [{**named, "rate": 2.0, "value": 31.26}, {**named, "rate": 1.0, "value": 30.0}]
    results.write_trials(tmp_path, tried, ABOUT, (1.0, 2.0))
    assert results.load_trials(tmp_path) == tried[::-1]
    assert "| IPV | 1: 30.0, **2: 31.3** |" in (tmp_path / "tuning.md").read_text()
    even = [{**trial, "value": 30.0} for trial in tried]
    results.write_trials(tmp_path, even, ABOUT, (2.0, 1.0))
    assert "| IPV | 1: 30.0, **2: 30.0** |" in (tmp_path / "tuning.md").read_text(), "the first that the recipe names"
    begun = [*tried, {**named, "row": RANDOM, "rate": 1.0, "value": 20.0}]
    results.write_trials(tmp_path, begun, ABOUT, (1.0, 2.0))
    assert "| random init | 1: 20.0 |" in (tmp_path / "tuning.md").read_text(), "nothing is chosen yet"
    results.write_trials(tmp_path, tried, ABOUT, (1.0, 2.0))
    (tmp_path / results.TRIALS_FILE).write_text('{"schema": 1, "command": "", "machine": "", "trials": [{"row": 1}]}')
    with pytest.raises(InputError, match="cannot read the results"):
        results.load_trials(tmp_path)


def test_a_table_is_measured_gone_on_from_and_reported(runner, tmp_path, monkeypatch):
    """Two cells of it, with the smoke recipe: the whole takes hours."""

    def two_cells(recipe, row, column, seed):
        return row in (RANDOM, HVDISTILL) and column.name == "nuScenes-like 1%"

    monkeypatch.setattr("stages.study.measured", two_cells)
    store, out = runner.store, tmp_path / "results"
    arguments = ("table", "--recipe", "smoke", "--device", "cpu", "--out", out)
    first = run(store, *arguments)
    assert first.exit_code == 0, first.output
    written = (out / results.FILE).read_text()
    random, distilled = json.loads(written)["cells"]
    assert (random["row"], distilled["row"]) == (RANDOM, HVDISTILL)
    for cell in (random, distilled):
        assert cell["value"] == store.find("eval", cell["key"]).details["metrics"]["miou"]
        assert all(effort["steps"] == 2 and effort["train_cpu_seconds"] > 0 for effort in cell["trainings"].values())
    assert set(random["trainings"]) == {"finetune"} and set(distilled["trainings"]) == {"finetune", "pretrain"}
    made = len(store.artifacts())
    assert run(store, *arguments).exit_code == 0
    assert len(store.artifacts()) == made and (out / results.FILE).read_text() == written, "nothing ran twice"

    report = ("report", "--results", out, "--out", tmp_path / "page.html")
    assert run(store, *report).exit_code == 0
    assert (tmp_path / "page.html").read_text().count("What a point resembles, frame") == 2 * 3
    shutil.rmtree(store.root / "superpixels")
    without = run(store, *report)
    assert without.exit_code == 0 and "similarity maps are left out: superpixels" in without.output
    assert "What a point resembles" not in (tmp_path / "page.html").read_text()
