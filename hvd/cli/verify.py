"""`hvd verify`: check what artifacts hold, and make anew what is damaged."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log
from hvd.cli.options import DEFAULT_STORE, Json, StorePath, emit, require_store
from hvd.cli.tables import print_line
from hvd.errors import CorruptError, HvdError, InputError

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.store import Store


def register(app: typer.Typer) -> None:
    """Add `verify` to `app`."""
    app.command()(verify)


def verify(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Default: every artifact.")] = None,
    full: Annotated[bool, typer.Option("--full/--quick", help="Read every byte, or compare sizes alone.")] = True,
    repair: Annotated[bool, typer.Option("--repair", help="Make what is damaged anew, and only that.")] = False,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Check that artifacts hold what was written; exit code 4 if one does not."""
    from cache.errors import Corrupt
    from cache.store import Store

    opened = Store(store)
    require_store(store)
    hint = "it can't be repaired; remove: hvd gc --damaged --yes (after hvd unpin, if pinned), then make it anew"
    try:
        items = opened.artifacts() if key is None else [opened.resolve(key)]
    except Corrupt as error:
        raise CorruptError(str(error), hint=hint) from None
    broken = opened.damaged() if key is None else []
    if not any(isinstance(item.error, Corrupt) for item in broken):
        hint = "it takes the version that wrote it"
    problems = [str(item.error) for item in broken]
    repaired: list[dict[str, Any]] = []
    beyond: list[HvdError] = []
    for item in log.track(items, "verify"):
        found = item.verify(full)
        if found and repair:
            try:
                repaired.append(_repair(opened, item, found))
            except (InputError, CorruptError) as error:  # the others may be mended
                log.warn(str(error))
                beyond.append(error)
                problems += found
        elif found:
            problems += found
            hint = "run: hvd verify --repair"
    if json_:
        emit({"checked": len(items), "full": full, "problems": problems, "repaired": repaired})
    else:
        for problem in problems:
            print_line(problem)
    if beyond:
        raise beyond[0]
    if problems:
        raise CorruptError(f"{len(problems)} problems in {opened.root}", why=problems[0], hint=hint)
    log.info(f"{len(items)} artifacts are intact" if full else f"{len(items)} artifacts have the right files and sizes")


def _repair(store: "Store", item: "Artifact", found: list[str]) -> dict[str, Any]:
    """Make a damaged artifact anew, and say whether that gave the bytes that others were made from."""
    from stages.repair import children, repair

    log.warn(f"{item.stage} {item.key[:8]}: {found[0]}")
    name, affected = f"{item.stage} {item.key[:8]}", children(store, item)
    same = repair(store, item).digest == item.digest
    log.info(f"{name}: made anew, " + ("the same bytes as before" if same else "with other bytes than before"))
    if affected and not same:
        names = ", ".join(f"{child.stage} {child.key[:8]}" for child in affected)
        log.warn(f"made from the bytes that were there before, and not found by later runs: {names}")
    return {"stage": item.stage, "key": item.key, "problems": found, "same_bytes": same,
            "children": [child.key for child in affected]}  # fmt: skip
