"""`hvd status`: what is in the store, stage by stage, and what is unfinished or damaged."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.errors import readable_bytes
from hvd import log
from hvd.cli.options import DEFAULT_STORE, Json, StorePath, emit, require_store
from hvd.cli.tables import print_line, print_table, short_time
from hvd.errors import CheckFailedError

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.store import Store


def register(app: typer.Typer) -> None:
    """Add `status` to `app`."""
    app.command()(status)


def status(
    check: Annotated[
        bool,
        typer.Option("--check", help="End with 7 if code changed since an artifact, or one lacks files or bytes."),
    ] = False,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Say what is in the store, stage by stage, and whether the code changed since."""
    from cache.store import Store

    opened = Store(store)
    if check:
        require_store(store)
    damaged = [{"path": str(item.path), "why": str(item.error)} for item in opened.damaged()]
    if check:
        damaged += [{"path": str(i.path), "why": problems[0]} for i in opened.artifacts() if (problems := i.verify())]
    unfinished = list(_unfinished(opened))
    stages = [_summary(list(found)) for _, found in groupby(_by_stage(opened), lambda item: item.stage)]
    if json_:
        emit({"store": str(opened.root), "stages": stages, "unfinished": unfinished, "damaged": damaged})
    else:
        _print_status(opened.root, stages, unfinished, damaged)
    changed = [stage["stage"] for stage in stages if stage["code"] == "changed since"]
    if check and (changed or damaged):
        why = [f"code changed since the newest {', '.join(changed)}"] if changed else []
        why += [f"{len(damaged)} damaged"] if damaged else []
        raise CheckFailedError("not current", where=opened.root, why="; ".join(why),
                               hint="see: hvd status; hvd verify")  # fmt: skip


def _print_status(
    root: Path, stages: list[dict[str, Any]], unfinished: list[dict[str, str]], damaged: list[dict[str, str]]
) -> None:
    if stages:
        columns = ("stage", "count", "size", "newest", "made (UTC)", "code")
        print_table(columns, [_status_row(stage) for stage in stages])
    elif not damaged:
        log.info(f"no artifacts in {root}; run: hvd prep nuscenes")
    for item in unfinished:
        print_line(f"unfinished: {item['stage']} {item['key'][:8]}, {item['state']}")
    for item in damaged:
        print_line(f"damaged: {item['why']}")


def _by_stage(store: "Store") -> list["Artifact"]:
    return sorted(store.artifacts(), key=lambda item: (item.stage, item.sequence))


def _summary(found: list["Artifact"]) -> dict[str, Any]:
    """What `status` says of one stage's artifacts, the newest being last."""
    newest = found[-1]
    return {
        "stage": newest.stage,
        "count": len(found),
        "size_bytes": sum(item.size_bytes for item in found),
        "newest": newest.key,
        "created": newest.manifest.created,
        "code": code_state(newest),
    }


def _status_row(stage: dict[str, Any]) -> tuple[object, ...]:
    size = readable_bytes(stage["size_bytes"])
    return stage["stage"], stage["count"], size, stage["newest"][:8], short_time(stage["created"]), stage["code"]


def code_state(item: "Artifact") -> str:
    """Whether our source files, the command line's aside, are still those that made `item`.

    Returns:
        "same", "changed since" or "unknown".
    """
    from stages.provenance import code_digest
    from stages.specs import STAGES

    stage, recorded = STAGES.get(item.stage), item.details.get("code")
    if stage is None or recorded is None:
        return "unknown"
    return "same" if code_digest(stage.module) == recorded else "changed since"


def _unfinished(store: "Store") -> Iterator[dict[str, str]]:
    """Work that another process does now, or that was left."""
    from cache import layout

    for path in layout.works(store.root):
        stage, key = path.parent.name, path.name
        owner = store.owner(stage, key)
        if owner is not None:
            yield {"stage": stage, "key": key, "state": f"process {owner.pid} on {owner.host} since {owner.since}"}
        elif path.exists() and store.find(stage, key) is None:
            yield {"stage": stage, "key": key, "state": "left by a process that ended; the same command goes on"}
