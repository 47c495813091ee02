"""Commands that look at artifacts: `hvd ls | show | explain`."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.errors import readable_bytes
from hvd import log
from hvd.cli.lineage import cells, trace
from hvd.cli.options import DEFAULT_STORE, Json, KeyPrefix, StorePath, emit
from hvd.cli.summary import summary
from hvd.cli.tables import print_line, print_table, short_time
from hvd.errors import UsageError

if TYPE_CHECKING:
    from cache.artifact import Artifact


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (ls, show, explain):
        app.command()(command)


def ls(
    stage: Annotated[str | None, typer.Argument(help="Only this stage's artifacts.")] = None,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """List the artifacts, oldest first."""
    from cache.store import Store
    from stages.specs import STAGES

    opened = Store(store)
    found = opened.artifacts(stage)
    if stage is not None and not found and stage not in STAGES:
        raise UsageError(f"unknown stage {stage!r}", hint=f"valid: {', '.join(STAGES)}")
    pins = opened.pins()
    if json_:
        emit([{**describe(item), "pinned": item.key in pins} for item in found])
        return
    if not found:
        log.info(f"no {f'{stage} artifacts' if stage else 'artifacts'} in {opened.root}")
        return
    columns = ("key", "stage", "size", "made (UTC)", "recipe", "what", "data", "")
    print_table(columns, [(*_ls_row(item), "pinned" if item.key in pins else "") for item in found])


def _ls_row(item: "Artifact") -> tuple[str, ...]:
    sources = item.details.get("data", {})
    data = ", ".join(f"{name}: {place}" for name, place in sorted(sources.items()))
    return (
        item.key[:8],
        item.stage,
        readable_bytes(item.size_bytes),
        short_time(item.manifest.created),
        str(item.details.get("recipe", "")),
        summary(item),
        data,
    )


def describe(item: "Artifact") -> dict[str, Any]:
    """An artifact in short, for `--json`."""
    return {
        "stage": item.stage,
        "key": item.key,
        "path": str(item.path),
        "digest": item.digest,
        "sequence": item.sequence,
        "size_bytes": item.size_bytes,
        "file_count": item.manifest.file_count,
        "created": item.manifest.created,
        "recipe": item.details.get("recipe"),
    }


def show(
    key: KeyPrefix,
    lineage: Annotated[bool, typer.Option("--lineage", help="Only what it was made from, up to the data set.")] = False,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Show an artifact: inputs, configuration, parents, provenance and metrics."""
    from cache.store import Store

    opened = Store(store)
    item = opened.resolve(key)
    if lineage:
        ancestors = list(trace(opened, item))
        if json_:
            emit([ancestor._asdict() for ancestor in ancestors])
        else:
            for ancestor in ancestors:
                print_line(str(ancestor))
        return
    details = {name: value for name, value in item.details.items() if name != "metrics"}
    document = {
        **describe(item),
        "inputs": item.key_inputs.get("inputs", {}),
        "parents": list(item.parents),
        "config": item.key_inputs.get("config", {}),
        "details": details,
        "metrics": item.details.get("metrics", {}),
        **({"cells": labels} if (labels := cells(item)) else {}),
    }
    if json_:
        emit(document)
        return
    parents = {labels.get(p["name"], p["name"]): f"{p['stage']} {p['key']}" for p in item.parents}
    for line in _outline({**document, "parents": parents}):
        print_line(line)


def _outline(tree: dict[str, Any], indent: str = "") -> Iterator[str]:
    """One line a field, tables below their name."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _outline(value, indent + "  ")
        else:
            yield f"{indent}{name}: {value if isinstance(value, str) else json.dumps(value)}"


def explain(key: KeyPrefix, store: StorePath = DEFAULT_STORE, json_: Json = False) -> None:
    """Say in which fields an artifact's key differs from the nearest other artifact of its stage."""
    from cache.difference import difference
    from cache.store import Store

    opened = Store(store)
    item = opened.resolve(key)
    nearest = opened.nearest(item.stage, item.key_inputs)
    changes = [] if nearest is None else difference(nearest.key_inputs, item.key_inputs)
    if json_:
        fields = [{"field": name, "this": new, "nearest": old} for name, old, new in changes]
        emit({"key": item.key, "nearest": nearest and nearest.key, "differences": fields})
    elif nearest is None:
        log.info(f"{item.key[:8]} is the only {item.stage} artifact: nothing to compare with")
    else:
        rows = [(name, _brief(new), _brief(old)) for name, old, new in changes]
        print_table(("field", item.key[:8], f"{nearest.key[:8]} (nearest)"), rows)


def _brief(value: object) -> str:
    """A value on one line; digests are cut."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:12]}..."
