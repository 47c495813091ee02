"""`hvd table`: the study of the paper's claim, with baselines, seeds and spread; hours, resumable."""

import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log
from hvd.cli.options import Common, check_folder, emit, stage_command
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
    from stages import protocol, results, tuning
    from stages.plans import Source
    from stages.study import COLUMN_GROUPS, Setup, cells

    check_folder(out)
    sources = Source("nuscenes"), Source("semkitti"), Source("kitti")
    recipe = common.load(*sources)
    by_name = {source.dataset: source for source in sources}
    setup = Setup(recipe, common.load_quietly(*sources, student="voxelnet"), by_name)
    runner = common.runner(*sources)
    about = {"command": _command(common, *sources), "views": protocol.views(recipe.pretrain)}

    tries = list(tuning.trials(setup))
    with nullcontext() if common.dry_run else _alone(out):
        known_trials, known = results.load_trials(out), results.load(out)["cells"]
        tried = results.of_plan(known_trials, tries)
        if common.dry_run:
            planned: list[Cell | Trial] = [*tries, *cells(setup, tuning.chosen(recipe, tried))]
            _show(common, runner, results.not_in([*tried, *known], planned))
            return
        write_trials = partial(results.write_trials, out, about=about, rates=recipe.study.rates)
        write = partial(results.write, out, about=about)
        set_aside(out / results.TRIALS_FILE, known_trials, tried, write_trials)
        for group in COLUMN_GROUPS:
            left = [item for item in tries if item.column in group]
            _measure(runner, left, tried, results.record_trial, write_trials, jobs)
            wanted = list(cells(setup, tuning.chosen(recipe, tried)))
            found = results.of_plan(known, wanted)
            set_aside(out / results.FILE, known, found, write)
            log.info(f"{len(found)} of {len(wanted)} values are in {out}")
            _measure(runner, [cell for cell in wanted if cell.column in group], found, results.record, write, jobs)
            known = found
        if common.json_:
            emit(found)
        else:
            typer.echo(results.markdown(found, about))


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other `hvd table` away from the files in `out`: each writes them whole, and would lose what others found.

    Raises:
        Busy: there is one.
    """
    from cache import lock
    from cache.errors import Busy

    out.mkdir(parents=True, exist_ok=True)
    try:
        held = lock.exclusive(out / ".table.lock", wait=False)
    except Busy as busy:
        raise Busy(f"another hvd table writes into {out}", busy.host, busy.pid, busy.since) from None
    with held:
        held.delete_file_on_release()
        yield


def set_aside(path: Path, known: list[Any], kept: list[Any], write: Callable[[list[Any]], None]) -> None:
    """Keep a file as it is, under another name, before records that another plan made are left out of it."""
    if len(kept) == len(known):
        return
    number = next(n for n in count(1) if not path.with_stem(f"{path.stem}-{n}").exists())
    aside = path.with_stem(f"{path.stem}-{number}")
    shutil.copyfile(path, aside)
    log.warn(f"{len(known) - len(kept)} of {len(known)} values in {path} are of another plan; they are kept in {aside}")
    if kept:
        write(kept)
    else:
        path.unlink()


def _measure(
    runner: "Runner",
    planned: "Sequence[Cell] | Sequence[Trial]",
    found: list[dict[str, Any]],
    record: Callable[[Any, Any], dict[str, Any]],
    write: Callable[[list[dict[str, Any]]], None],
    jobs: int,
) -> None:
    """Run what is planned, not yet `found`: each record is added there, and all are written, as soon as it is made.

    What is found is written at the start too: the file may be of a version that showed it otherwise.
    """
    from stages.results import not_in

    left: dict[Step, list[Any]] = {}
    for item in not_in(found, planned):
        left.setdefault(item.step, []).append(item)

    def add(step: "Step") -> None:
        if step in left:
            machine = _machine(runner.done[step].artifact.details)
            found.extend({**record(item, runner.done), "machine": machine} for item in left[step])
            write(found)

    if found:
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
    runs = Counter(status.step.stage.name for status in missing)
    steps = Counter[str]()
    for status in missing:
        steps[status.step.stage.name] += status.cost.steps or 0
    print_table(("stage", "to run", "training steps"), [(name, runs[name], steps[name] or "") for name in runs])
    say_size(common, plan)


def _command(common: Common, *sources: "Source") -> str:
    given = ["--config", str(common.config)] if common.config else []
    for assignment in common.set_ or ():
        given += ["--set", assignment]
    if common.skip_bad:
        given.append("--skip-bad")
    return shlex.join(["hvd", "table", "--recipe", common.recipe_name(*sources), *given])


def _machine(details: dict[str, Any]) -> str:
    """Where a value was measured, and the GPU if it was one: a store may have come from elsewhere."""
    from stages.provenance import machine

    gpu = "" if details["device"] == "cpu" else f", {details['device']}"
    place = details.get("machine") or machine()  # older manifests don't say
    return f"{place}{gpu}, Python {details['versions']['python']}"
