"""`hvd world`: write the built-in world to a folder, or prove that it is no toy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hvd import log
from hvd.cli.options import Common, check_folder, emit, stage_command

if TYPE_CHECKING:
    from stages.graph import Step
    from stages.recipe import Recipe
    from stages.runner import Runner


def register(app: typer.Typer) -> None:
    """Add `world` to `app`."""
    app.command()(stage_command(world))


def world(
    common: Common,
    out: Annotated[Path | None, typer.Option("--out", help="Copy the data sets into this folder.")] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Check that no class can be read off a single cue.")] = False,
) -> None:
    """Make the built-in world: procedural streets in the formats of nuScenes, SemanticKITTI and KITTI's objects."""
    from stages import plans
    from stages.plans import Source
    from stages.recipe import full_labels

    sources = Source("nuscenes"), Source("semkitti"), Source("kitti")
    if out is not None:
        check_folder(out)
    recipe = common.load(*sources)
    if audit:
        full_labels(recipe)  # before anything is made
    runner = common.runner()
    steps = {source.dataset: plans.world(recipe, source) for source in sources}
    if common.dry_run:
        from hvd.cli.run import show_plan

        judged = (scored_with_all_labels(recipe),) if audit else ()
        show_plan(common, runner.status((*steps.values(), *judged)))
        return
    for name, step in steps.items():
        outcome = runner.run(step)
        log.info(f"{name}: {outcome.artifact.path}")
        if out is not None:
            runner.copy(step, out / name)
            log.info(f"copied to {out / name}")
    if audit:
        check(common, runner, recipe)
    elif common.json_:
        emit({"artifacts": [outcome.as_dict() for outcome in runner.done.values()]})


def scored_with_all_labels(recipe: "Recipe") -> "Step":
    """The evaluation of a student that learnt from scratch with all nuScenes labels."""
    from stages import plans
    from stages.plans import Source
    from stages.recipe import full_labels

    source = Source("nuscenes")
    return plans.evaluate(recipe, source, recipe.eval, plans.finetune(recipe, source, full_labels(recipe), None))


def check(common: Common, runner: "Runner", recipe: "Recipe") -> None:
    """Measure what single cues give away, and whether a student with all labels learns every class.

    Raises:
        CheckFailedError: a figure misses its limit.
    """
    from hvd.cli.tables import print_table
    from hvd.errors import CheckFailedError
    from hvd.world.audit import audit, learnable
    from stages import plans
    from stages.plans import Source

    world = runner.done[plans.world(recipe, Source("nuscenes"))].artifact
    rows = audit(world.path, seed=0)
    scored = runner.run(scored_with_all_labels(recipe)).artifact
    rows += learnable(scored.path / "metrics.json")
    if common.json_:
        emit([row._asdict() for row in rows])
    else:
        lines = [(row.name, f"{row.value:.1f}", f"{row.limit:.1f}", "ok" if row.ok else "FAIL") for row in rows]
        print_table(("figure", "value", "limit", ""), lines)
    if failed := [row.name for row in rows if not row.ok]:
        raise CheckFailedError(f"the built-in world fails its audit: {', '.join(failed)}")
