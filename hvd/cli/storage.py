"""Commands that change the store: `hvd gc | pin | unpin | pack | unpack`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache.errors import readable_bytes
from hvd import log
from hvd.cli.options import DEFAULT_STORE, Json, KeyPrefix, StorePath, check_file, emit
from hvd.cli.tables import print_table
from hvd.errors import CorruptError, InputError, ResourceError, UsageError

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.gc import Item

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (gc, pin, unpin, pack, unpack):
        app.command()(command)


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    older_than: Annotated[
        str | None, typer.Option(help="Also artifacts and unfinished work of this age: 30d, 12h.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Also artifacts that are not among this many newest of their stage.")
    ] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also artifacts with a damaged manifest.")] = False,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Delete left-overs and, with --older-than or --keep (or by both), artifacts; what is pinned or in use stays."""
    from cache.gc import Collected, collect, plan
    from cache.store import Store

    opened = Store(store)
    older_than_s = None if older_than is None else parse_age(older_than)
    items = plan(opened, older_than_s=older_than_s, keep=keep, damaged=damaged)
    done = collect(opened, items) if yes else Collected((), ())
    refused = {item.path: why for item, why in done.kept}
    if json_:
        rows = [
            {**asdict(item), "deleted": item in done.removed, "kept_because": refused.get(item.path)} for item in items
        ]
        emit({"deleted": yes, "size_bytes": _total(done.removed if yes else items), "items": rows})
        return
    if not items:
        log.info("nothing to delete")
        return
    columns = ("kind", "size", "path", "because it")
    print_table(columns, [(i.kind, readable_bytes(i.size_bytes), i.path, _outcome(i, refused)) for i in items])
    if yes:
        log.info(f"deleted {len(done.removed)}, {readable_bytes(_total(done.removed))}; kept {len(done.kept)}")
    else:
        log.info(f"would delete {len(items)}, {readable_bytes(_total(items))}; --yes does it")


def _total(items: "list[Item] | tuple[Item, ...]") -> int:
    return sum(item.size_bytes for item in items)


def _outcome(item: "Item", refused: dict[Path, str]) -> str:
    return item.reason + (f"; kept: {refused[item.path]}" if item.path in refused else "")


def parse_age(text: str) -> float:
    """Seconds in `30d`, `12h`, `45m`, `90s` or `2w`.

    Raises:
        UsageError: another form.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise UsageError(f"bad age {text!r}", hint="write a number and s, m, h, d or w: 30d")
    return float(found[1]) * _SECONDS[found[2]]


def pin(key: KeyPrefix, store: StorePath = DEFAULT_STORE, json_: Json = False) -> None:
    """Keep an artifact, and what it was made from, from gc."""
    from cache.store import Store

    opened = Store(store)
    found = opened.resolve(key)
    opened.pin(found.key)
    _say(json_, found.key, pinned=True)


def unpin(key: KeyPrefix, store: StorePath = DEFAULT_STORE, json_: Json = False) -> None:
    """Take a pin away."""
    from cache.store import Store

    opened = Store(store)
    matching = [pinned for pinned in opened.pins() if pinned.startswith(key)]
    opened.unpin(key)  # refuses unless it is one
    _say(json_, matching[0], pinned=False)


def _say(json_: bool, key: str, *, pinned: bool) -> None:
    if json_:
        emit({"key": key, "pinned": pinned})
    else:
        log.info(f"{key[:8]} is {'pinned' if pinned else 'no longer pinned'}")


def pack(
    key: KeyPrefix,
    file: Annotated[Path, typer.Argument(help="The tar file to write.")],
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Write an artifact to a tar file, for another store."""
    from cache.pack import pack as write
    from cache.store import Store

    check_file(file, "tar file")
    found = Store(store).resolve(key)
    with _packing(found):
        write([found], file)
    if json_:
        emit({"key": found.key, "stage": found.stage, "file": str(file), "size_bytes": file.stat().st_size})
    else:
        log.info(f"packed {found.stage} {found.key[:8]} into {file}, {readable_bytes(file.stat().st_size)}")


@contextmanager
def _packing(item: "Artifact") -> Iterator[None]:
    """Say what helps where an artifact can't be packed: not what helps a stage that can't write its store."""
    from cache import errors

    try:
        yield
    except errors.Corrupt as error:
        raise CorruptError(str(error), hint=f"run: hvd verify {item.key[:8]} --repair") from error
    except errors.NoSpace as error:
        raise ResourceError(str(error), hint="free some, or name a file on another disk") from error
    except errors.ReadOnly as error:
        raise ResourceError(str(error)) from error


@contextmanager
def _unpacking(file: Path) -> Iterator[None]:
    """Say what helps against a damaged tar file; what is wrong with the store is said as everywhere."""
    from cache import errors

    try:
        yield
    except errors.Corrupt as error:
        if error.path != file:
            raise
        raise CorruptError(str(error), hint="copy it again, or pack it again") from error
    except errors.StoreIO as error:
        if error.path != file:
            raise
        raise ResourceError(str(error)) from error


def unpack(
    file: Annotated[Path, typer.Argument(help="A tar file that hvd pack wrote.")],
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Publish the artifacts of a packed tar file in this store, each byte checked."""
    from cache.pack import unpack as read
    from cache.store import Store

    if not file.is_file():
        raise InputError("no such file", where=file)
    with _unpacking(file):
        found = read(Store(store), file)
    if json_:
        emit([{"stage": item.stage, "key": item.key, "path": str(item.path)} for item in found])
    for item in found if not json_ else ():
        log.info(f"unpacked {item.stage} {item.key[:8]}: {item.path}")
