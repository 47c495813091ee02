"""`hvd reproduce`: the whole job as one graph, ending in the table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log
from hvd.cli.options import Common, Version, check_folder, emit, stage_command

if TYPE_CHECKING:
    from stages.runner import Outcome, Runner

Folder = Annotated[
    Path | None, typer.Option(help="Data set root, or world; default: environment, hvd.toml, built-in world.")
]


def register(app: typer.Typer) -> None:
    """Add `reproduce` to `app`."""
    app.command()(stage_command(reproduce, trains=True))


def reproduce(
    common: Common,
    nuscenes: Folder = None,
    semkitti: Folder = None,
    version: Version = None,
    jobs: Annotated[int, typer.Option(min=1, help="Stages to run side by side.")] = 2,
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the table into this folder.")] = None,
) -> None:
    """Pre-train, fine-tune and evaluate random init, IPV and IPV + BEV; print one table."""
    from hvd.errors import UsageError
    from stages.reproduce import reproduce as plan

    if out is not None:
        check_folder(out)
    sources = common.source("nuscenes", nuscenes, version), common.source("semkitti", semkitti, None)
    if (sources[0].root is None) != (sources[1].root is None):
        missing = next(source.dataset for source in sources if source.root is None)
        hint = f"pass --{missing} DIR too, or world for both (hvd.toml and HVD_* name roots as well)"
        raise UsageError("real data and the built-in world would be mixed", hint=hint)
    recipe = common.load(*sources)
    if common.seed is not None:
        recipe = recipe.with_(table=recipe.table.with_(pretrain_seed=common.seed))
    runner = common.runner(*sources)
    step = plan(recipe, *sources)
    if common.dry_run:
        from hvd.cli.run import show_plan

        show_plan(common, runner.status((step,)))
        return
    runner.run_all((step,), jobs)
    if out is not None:
        runner.copy(step, out)
    _finish(common, runner, runner.done[step])


def _finish(common: Common, runner: "Runner", table: "Outcome") -> None:
    from stages.intact import require_intact

    states = [outcome.state for outcome in runner.done.values()]
    log.info(f"{states.count('run')} stages run, {states.count('hit')} found; table: {table.artifact.path}")
    made = [outcome for outcome in runner.done.values() if outcome.state == "run"]
    if made:
        spent, kept = sum(o.seconds for o in made), sum(o.store_seconds for o in made)
        log.info(f"{spent:.0f} s of stages, of which the store took {kept:.1f} s ({kept / spent:.1%})")
    if common.json_:
        emit({**table.as_dict(), "artifacts": [outcome.as_dict() for outcome in runner.done.values()]})
    else:
        require_intact(table.artifact)
        _print_table(table.artifact.path)


def _print_table(folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from stages.table import grid, load_cells, show

    cells: list[dict[str, Any]] = load_cells(folder)
    columns, rows = grid(cells)
    table = Table("mIoU, %", *columns, caption="mean (every fine-tuning seed); one pre-training seed")
    for row, values in rows.items():
        table.add_row(row, *(show(values.get(column, [])) for column in columns))
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)
