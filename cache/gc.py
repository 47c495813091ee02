"""What may be deleted, and its deletion: first a plan, which changes nothing, then `collect`.

Left-overs (trash, folders without a manifest, work on what is published) always go. Artifacts go if they are older than
a given age, or not among a given number of each stage's newest, or, where both are given, both; unfinished work goes by
age alone. What is pinned or stays by these rules stays with everything it was made from, and so does what another
process reads or makes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cache import artifact, disk, layout, lock, manifest
from cache.artifact import Artifact, Damage
from cache.errors import Busy, Corrupt, StoreError, translated
from cache.store import Store
from cache.work import discard

Kind = Literal["artifact", "damaged", "remains", "work", "trash"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that `collect` would delete."""

    kind: Kind
    path: Path
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class Collected:
    """What `collect` did: the items that are gone, and those that stay, each with the reason."""

    removed: tuple[Item, ...]
    kept: tuple[tuple[Item, str], ...]


def plan(
    store: Store,
    *,
    older_than_s: float | None = None,
    keep: int | None = None,
    damaged: bool = False,
    now: datetime | None = None,
) -> list[Item]:
    """What could be deleted at `now` (default: this moment).

    Args:
        store: the store.
        older_than_s: artifacts and unfinished work of this age go.
        keep: artifacts go that are not among the `keep` newest of their stage.
        damaged: artifacts whose manifest is damaged go too; not those that a newer version wrote.
        now: with a time zone.
    """
    moment = now or datetime.now(UTC)
    pins = store.pins()
    items = [*_trash(store.root), *_remains(store.root), *_works(store.root, older_than_s, moment)]
    if damaged:
        broken = [item for item in store.damaged() if isinstance(item.error, Corrupt)]
        items += [_damage(item) for item in broken if item.path.name not in pins]
    if older_than_s is not None or keep is not None:
        items += _old_artifacts(store.artifacts(), pins, older_than_s or 0.0, keep or 0, moment)
    return items


def collect(store: Store, items: Iterable[Item]) -> Collected:
    """Delete the items of a plan, except what is pinned or in use by now."""
    removed: list[Item] = []
    kept: list[tuple[Item, str]] = []
    for item in items:
        try:
            reason = _remove(store, item)
        except StoreError as error:
            reason = str(error)
        if reason:
            kept.append((item, reason))
        else:
            removed.append(item)
    return Collected(tuple(removed), tuple(kept))


def _trash(root: Path) -> Iterator[Item]:
    for name in filter(layout.TRASHED.fullmatch, layout.names(root / layout.TRASH)):
        yield _item("trash", root / layout.TRASH / name, "was being deleted")


def _remains(root: Path) -> Iterator[Item]:
    for path in layout.folders(root):
        if not (path / manifest.NAME).exists():
            yield _item("remains", path, "has no manifest")


def _works(root: Path, older_than_s: float | None, now: datetime) -> Iterator[Item]:
    for path in layout.works(root):
        published = layout.path_of(root, path.parent.name, path.name) / manifest.NAME
        age_s = _age_s(lock.read_owner(layout.lock_of(path)).since, now)
        if published.exists() or not path.exists():
            yield _item("work", path, "is finished")
        elif older_than_s is not None and age_s >= older_than_s:
            yield _item("work", path, f"was left {_days(age_s)} ago")


def _damage(item: Damage) -> Item:
    return _item("damaged", item.path, item.error.what)


def _old_artifacts(
    found: list[Artifact], pins: frozenset[str], older_than_s: float, keep: int, now: datetime
) -> Iterator[Item]:
    ages_s = {item.key: _age_s(item.manifest.created, now) for item in found}
    stay = {item.key for item in found if item.key in pins or ages_s[item.key] < older_than_s}
    for stage in {item.stage for item in found}:
        newest_first = [item.key for item in reversed(found) if item.stage == stage]
        stay.update(newest_first[:keep])
    stay = _with_ancestors(stay, found)
    for item in found:
        if item.key not in stay:
            reason = f"was made {_days(ages_s[item.key])} ago"
            reason += f", {keep} or more {item.stage} artifacts are newer" if keep else ""
            yield Item(kind="artifact", path=item.path, size_bytes=item.size_bytes, reason=reason)


def _with_ancestors(keys: set[str], found: list[Artifact]) -> set[str]:
    """`keys` and those of all they were made from; a parent made anew may be younger than its child."""
    parents = {item.key: {parent["key"] for parent in item.parents} for item in found}
    reached, left = set(keys), list(keys)
    while left:
        new = parents.get(left.pop(), set()) - reached
        reached |= new
        left += new
    return reached


def _age_s(moment: str, now: datetime) -> float:
    """Seconds since `moment`; 0 if it is unreadable or, after the clock was set back, in the future."""
    try:
        return max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    except (ValueError, TypeError):  # TypeError: no time zone
        return 0.0


def _days(age_s: float) -> str:
    return f"{age_s / 86400:.1f} days"


def _item(kind: Kind, path: Path, reason: str) -> Item:
    return Item(kind=kind, path=path, size_bytes=disk.size_of(path), reason=reason)


def _remove(store: Store, item: Item) -> str:
    """Delete one item; returns the reason if it stays."""
    try:
        if item.kind == "trash":
            with translated(item.path):
                disk.remove(item.path)
        elif item.path.name in store.pins():
            return "is pinned"
        elif not item.path.exists() and item.kind != "work":
            return ""  # another process was faster
        elif item.kind in ("artifact", "damaged"):
            with translated(item.path), lock.exclusive_on_existing(item.path / manifest.NAME):
                discard(store.root, item.path)
        else:
            return _remove_unpublished(store.root, item)
    except Busy:
        return "is in use"
    return ""


def _remove_unpublished(root: Path, item: Item) -> str:
    """Delete work or remains under the lock that whoever makes the artifact takes."""
    stage = item.path.parent.name if item.kind == "work" else item.path.parent.parent.name
    work = layout.work_of(root, stage, item.path.name)
    with translated(work):
        disk.make_folders(work.parent, "store.work")
        with lock.exclusive(layout.lock_of(work), wait=False) as held:
            held.delete_file_on_release()
            if item.kind == "remains" and artifact.load(item.path) is not None:
                return "is complete by now"
            disk.remove(item.path)
    return ""
