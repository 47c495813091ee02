"""`hvd table`: the study of the paper's claim, with baselines, seeds and spread; hours, resumable."""

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log
from hvd.cli.options import Common, emit, stage_command
from hvd.cli.tables import print_table

if TYPE_CHECKING:
    from stages.graph import Step
    from stages.plans import Source
    from stages.runner import Runner
    from stages.study import Cell
    from stages.tuning import Trial


def register(app: typer.Typer) -> None:
    """Add `table` to `app`."""
    app.command()(stage_command(table))


def table(
    common: Common,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; what is there is gone on from.")] = Path(
        "docs/results"
    ),
    jobs: Annotated[int, typer.Option(min=1, help="Stages to run side by side.")] = 2,
) -> None:
    """Compare all rows of the study on the built-in world, seed by seed; first choose their learning rates.

    The rates are chosen on held-out training scenes and written to tuning.json and tuning.md, the comparison to
    table.json and table.md. First come the columns over all seeds, then those over fewer, at last detection.
    """
    from stages import results, tuning
    from stages.plans import Source
    from stages.study import COLUMN_GROUPS, Setup, cells

    sources = Source("nuscenes"), Source("semkitti"), Source("kitti")
    recipe = common.load(*sources)
    by_name = {source.dataset: source for source in sources}
    setup = Setup(recipe, common.load_quietly(*sources, student="voxelnet"), by_name)
    runner = common.runner(*sources)
    about = {"command": _command(common, *sources), "machine": _machine()}

    tries = list(tuning.trials(setup))
    tried = _still_planned(results.load_trials(out), tries)
    if common.dry_run:
        rates = tuning.chosen(recipe, tried)
        known = {item["plan"] for item in (*tried, *results.load(out)["cells"])}
        planned: list[Cell | Trial] = [*tries, *cells(setup, rates)]
        _show(common, runner, [item for item in planned if item.plan not in known])
        return
    found = results.load(out)["cells"]
    for group in COLUMN_GROUPS:
        left = [item for item in tries if item.column in group]
        _measure(runner, left, tried, results.record_trial, partial(results.write_trials, out, about=about), jobs)
        wanted = list(cells(setup, tuning.chosen(recipe, tried)))
        found = _still_planned(found, wanted)
        log.info(f"{len(found)} of {len(wanted)} values are in {out}")
        mine = [cell for cell in wanted if cell.column in group]
        _measure(runner, mine, found, results.record, partial(results.write, out, about=about), jobs)
    if common.json_:
        emit(found)
    else:
        typer.echo(results.markdown(found, about))


def _still_planned(records: Sequence[dict[str, Any]], planned: "Sequence[Cell] | Sequence[Trial]") -> list[Any]:
    """The records of what is planned today: what was measured otherwise is not mixed in."""
    plans = {item.plan for item in planned}
    return [record for record in records if record["plan"] in plans]


def _measure(
    runner: "Runner",
    planned: "Sequence[Cell] | Sequence[Trial]",
    found: list[dict[str, Any]],
    record: Callable[[Any, Any], dict[str, Any]],
    write: Callable[[list[dict[str, Any]]], None],
    jobs: int,
) -> None:
    """Run what is planned, not yet `found`: each record is added there, and all are written, as soon as it is made."""
    known = {item["plan"] for item in found}
    left = {item.step: item for item in planned if item.plan not in known}

    def add(step: "Step") -> None:
        if step in left:
            found.append(record(left[step], runner.done[step]))
            write(found)

    runner.run_all(tuple(left), jobs, add)


def _show(common: Common, runner: "Runner", left: "list[Cell | Trial]") -> None:
    """What is left, row by row, and what that takes, stage by stage: hundreds of steps."""
    from hvd.cli.run import say_size, show_plan
    from stages.study import ROWS, Cell

    plan = runner.status(tuple(item.step for item in left))
    if common.json_:
        show_plan(common, plan)
        return
    values = Counter(item.row for item in left if isinstance(item, Cell))
    trials = Counter(item.row for item in left if not isinstance(item, Cell))
    print_table(("row", "trials left", "values left"), [(row, trials[row], values[row]) for row in ROWS])
    missing = [status for status in plan if status.state != "hit"]
    count = Counter(status.step.stage.name for status in missing)
    steps = Counter[str]()
    for status in missing:
        steps[status.step.stage.name] += status.cost.steps or 0
    print_table(("stage", "to run", "training steps"), [(name, count[name], steps[name] or "") for name in count])
    say_size(common, plan)


def _command(common: Common, *sources: "Source") -> str:
    settings = "".join(f" --set {assignment}" for assignment in common.set_ or ())
    return f"hvd table --recipe {common.recipe_name(*sources)}{settings}"


def _machine() -> str:
    import os

    return f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}"
