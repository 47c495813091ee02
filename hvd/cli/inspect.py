"""Commands that look into the store: `hvd status | ls | show | explain | verify`."""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hvd import log
from hvd.cli import storage
from hvd.cli.options import DEFAULT_STORE, Json, StorePath, emit
from hvd.cli.summary import summary
from hvd.cli.tables import print_line, print_table, readable_bytes, short_time
from hvd.errors import CheckFailedError, CorruptError, HvdError, InputError, UsageError

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.store import Store

KeyPrefix = Annotated[str, typer.Argument(metavar="KEY", help="An artifact's key, or its first 4 characters or more.")]


def register(app: typer.Typer) -> None:
    """Add the store commands to `app`."""
    commands = (status, ls, show, explain, verify, storage.gc, storage.pin, storage.unpin, storage.pack, storage.unpack)
    for command in commands:
        app.command()(command)


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
        _require_store(store)
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


def _require_store(store: Path) -> None:
    """A check of a store that is not there, perhaps for a misspelled name, must not pass."""
    if not store.is_dir():
        raise InputError("no such store", where=store)


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


def cells(item: "Artifact") -> dict[str, str]:
    """The cell of a result table that each of its inputs fills; empty for other artifacts."""
    if item.stage != "table":
        return {}
    names = [parent["name"] for parent in item.parents]
    named = zip(names, item.key_inputs["config"]["cells"], strict=True)
    return {name: f"{row}, {column}, seed {seed}" for name, (row, column, seed) in named}


def _outline(tree: dict[str, Any], indent: str = "") -> Iterator[str]:
    """One line a field, tables below their name."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from _outline(value, indent + "  ")
        else:
            yield f"{indent}{name}: {value if isinstance(value, str) else json.dumps(value)}"


class Ancestor(NamedTuple):
    """A line of an artifact's lineage: how deep, as which input, and what; `stage` is empty for files and data sets.

    `digest` is what entered the key: of an artifact's content, a data set's fingerprint, or a file's sha256.
    """

    depth: int
    input: str
    stage: str
    what: str  # key, or path
    note: str
    digest: str

    def __str__(self) -> str:
        name = f"{self.input}: " if self.input else ""
        what = f"{self.stage} {self.what[:8]}" if self.stage else self.what
        return "  " * self.depth + name + what + (f"  ({self.note})" if self.note else "")


def trace(store: "Store", item: "Artifact") -> Iterator[Ancestor]:
    """`item` and everything it was made from, depth first; what comes up again is not followed again."""
    yield Ancestor(0, "", item.stage, item.key, "", item.digest)
    yield from _ancestors(store, item, 1, {item.key})


def _ancestors(store: "Store", item: "Artifact", depth: int, seen: set[str]) -> Iterator[Ancestor]:
    from stages.repair import DATA_INPUTS

    labels = cells(item)
    for parent in item.parents:
        name, stage, key, digest = parent["name"], parent["stage"], parent["key"], parent["digest"]
        found = store.find(stage, key)
        again = key in seen
        notes = [labels[name]] if name in labels else []
        notes += [f"fingerprint {digest}"] if stage == "world" else []  # the world is read as a data set
        notes += ["not in this store"] if found is None else ["see above"] if again else []
        yield Ancestor(depth, name, stage, key, "; ".join(notes), digest)
        if found is not None and not again:
            seen.add(key)
            yield from _ancestors(store, found, depth + 1, seen)
    for name, path in item.details.get("sources", {}).items():
        digest = item.key_inputs["inputs"][name]
        yield Ancestor(depth, name, "", path, f"{'fingerprint' if name in DATA_INPUTS else 'sha256'} {digest}", digest)


def explain(key: KeyPrefix, store: StorePath = DEFAULT_STORE, json_: Json = False) -> None:
    """Say in which fields an artifact's key differs from the nearest other artifact of its stage."""
    from cache.difference import difference
    from cache.store import Store

    opened = Store(store)
    item = opened.resolve(key)
    others = [other for other in reversed(opened.artifacts(item.stage)) if other.key != item.key]
    nearest = min(others, key=lambda other: len(difference(other.key_inputs, item.key_inputs)), default=None)
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
    _require_store(store)
    hint = "it can't be repaired; remove: hvd gc --damaged --yes, then run the command that made it"
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
