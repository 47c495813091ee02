"""`hvd table`: the study of the paper's claim, with baselines, seeds and spread; hours, resumable."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log
from hvd.cli.options import Common, emit, stage_command

if TYPE_CHECKING:
    from stages.runner import Runner
    from stages.study import Cell


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
    """Compare all rows of the study on the built-in world, seed by seed, and write table.json and table.md."""
    from stages import results
    from stages.plans import Source
    from stages.study import cells

    sources = Source("nuscenes"), Source("semkitti")
    recipe = common.load(*sources)
    wanted = list(cells(recipe, *sources))
    plans = {cell.plan for cell in wanted}
    found = [
        cell for cell in results.load(out)["cells"] if cell["plan"] in plans
    ]  # what was measured otherwise is not mixed in
    known = {cell["plan"] for cell in found}
    left = [cell for cell in wanted if cell.plan not in known]
    log.info(f"{len(known)} of {len(wanted)} values are in {out}")
    runner = common.runner(*sources)
    if common.dry_run:
        from hvd.cli.run import show_plan

        show_plan(common, runner.status(tuple(cell.step for cell in left)))
        return
    about = {"command": f"hvd table --recipe {common.recipe_name(*sources)}", "machine": _machine()}
    for seed in sorted({cell.seed for cell in left}):
        found += _measure(runner, [cell for cell in left if cell.seed == seed], jobs)
        results.write(out, found, about)
        log.info(f"seed {seed} is in {out}: {len(found)} of {len(wanted)} values")
    if common.json_:
        emit(found)
    else:
        typer.echo(results.markdown(found, about))


def _measure(runner: "Runner", cells: list["Cell"], jobs: int) -> list[dict[str, Any]]:
    from stages import results

    runner.run_all(tuple(cell.step for cell in cells), jobs)
    return [results.record(cell, runner.done[cell.step]) for cell in cells]


def _machine() -> str:
    import os

    return f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}"
