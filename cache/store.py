"""The store: every artifact below one root, found by key.

An artifact exists if and only if its manifest does. It is made in a work folder under a kernel lock and appears with
one rename, complete and flushed to the disk. `cache.layout` says where things are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cache import artifact, disk, layout, lock
from cache.artifact import Artifact, Damage
from cache.difference import difference
from cache.errors import Ambiguous, Busy, NotFound, of_the_machine, translate, translated
from cache.key import KEY_PATTERN
from cache.lock import Owner, nobody_listens
from cache.work import Work

_SHORTEST_PREFIX = 4


class Store:
    """The artifacts below one folder. Nothing is created before the first claim."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact of `key`, or None; reads only its manifest.

        Raises:
            Corrupt, Newer: the manifest is damaged or of a newer version.
        """
        return artifact.load(layout.path_of(self.root, stage, key))

    def resolve(self, prefix: str) -> Artifact:
        """The only artifact whose key begins with `prefix` (4 characters or more), of any stage.

        Raises:
            NotFound, Ambiguous, Corrupt, Newer
        """
        if len(prefix) < _SHORTEST_PREFIX:
            raise NotFound(f"no key {prefix!r}", self.root, f"give {_SHORTEST_PREFIX} characters or more")
        paths = [path for path in layout.folders(self.root, k2=prefix[:2]) if path.name.startswith(prefix)]
        found = [item for item in map(artifact.load, paths) if item is not None]
        if not found:
            raise NotFound(f"no key begins with {prefix!r}", self.root)
        if len(found) > 1:
            names = ", ".join(f"{item.stage} {item.key[: len(prefix) + 8]}" for item in found)
            raise Ambiguous(f"several keys begin with {prefix}", self.root, names)
        return found[0]

    def artifacts(self, stage: str | None = None) -> list[Artifact]:
        """All readable artifacts, or those of one stage, in the order of publication; see `damaged` for the others."""
        found = [item for item in artifact.scan(self.root, stage) if isinstance(item, Artifact)]
        return sorted(found, key=lambda item: (item.sequence, item.key))

    def damaged(self) -> list[Damage]:
        """The artifacts whose manifest can't be read."""
        return [item for item in artifact.scan(self.root) if isinstance(item, Damage)]

    def newest(self, stage: str, accept: Callable[[Artifact], bool] = lambda _: True) -> Artifact | None:
        """The artifact of `stage` published last among those that `accept` takes."""
        return next(filter(accept, reversed(self.artifacts(stage))), None)

    def nearest(self, stage: str, key_inputs: dict[str, Any]) -> Artifact | None:
        """The other artifact of `stage` with the fewest fields that differ from `key_inputs`; the newest of equals."""
        others = (item for item in reversed(self.artifacts(stage)) if item.key_inputs != key_inputs)
        return min(others, key=lambda item: len(difference(item.key_inputs, key_inputs)), default=None)

    @contextmanager
    def claim(
        self,
        stage: str,
        key: str,
        wait: bool = True,
        *,
        needs_bytes: int = 0,
        replaces: Artifact | None = None,
        on_wait: Callable[[Owner], None] = nobody_listens,
    ) -> Iterator[Work]:
        """Hold the exclusive right to make the artifact of `key`; if it exists, `work.artifact` is set.

        What the block leaves unpublished stays for the next claim. `on_wait` hears of the owner before waiting.
        `replaces`, a damaged artifact of this key, counts as missing: it is there until publication, which gives the
        new one its sequence number.

        Raises:
            Busy: another process holds it and `wait` is false.
            NoSpace: less than `needs_bytes` free, or the disk ran full inside the block.
            ReadOnly, StoreIO: the work folder can't be made, or the disk failed inside the block.
            Corrupt, Newer: the artifact exists and can't be read.
        """
        work = Work(self.root, stage, key, replaces)
        if work.artifact is not None:
            yield work
            return
        with self._lock(stage, key, wait, on_wait) as held:
            work = Work(self.root, stage, key, replaces)
            if work.artifact is None:
                work.prepare(needs_bytes)
            try:
                yield work
            except OSError as error:
                if of_the_machine(error):
                    raise translate(error, work.folder, needs_bytes or work.expected_bytes) from error
                raise
            finally:
                if work.artifact is not None or work.drop_if_empty():
                    held.delete_file_on_release()

    def owner(self, stage: str, key: str) -> Owner | None:
        """Who is working on `key` at this moment, if anybody."""
        return lock.owner_of(layout.lock_of(layout.work_of(self.root, stage, key)))

    def pin(self, key: str) -> None:
        """Keep `gc` from the artifact of `key` and what it was made from; a prefix will do.

        Raises:
            NotFound, Ambiguous, Corrupt, Newer, ReadOnly, StoreIO
        """
        pins, found = self.root / layout.PINS, self.resolve(key)
        with translated(pins):
            disk.make_folders(pins, "store.pins")
            disk.write(pins / found.key, b"", "store.pin")
            disk.flush(pins, "store.pins")

    def unpin(self, key: str) -> None:
        """Take away the pin of `key`; a prefix will do.

        Raises:
            NotFound: no pin, or more than one, begins so.
        """
        matching = [pin for pin in self.pins() if pin.startswith(key)]
        if len(matching) != 1:
            raise NotFound(f"{len(matching)} pins begin with {key!r}", self.root / layout.PINS)
        with translated(self.root):
            disk.remove(self.root / layout.PINS / matching[0])

    def pins(self) -> frozenset[str]:
        """The pinned keys."""
        return frozenset(filter(KEY_PATTERN.fullmatch, layout.names(self.root / layout.PINS)))

    def _lock(self, stage: str, key: str, wait: bool, on_wait: Callable[[Owner], None]) -> lock.Held:
        path = layout.lock_of(layout.work_of(self.root, stage, key))
        with translated(path):
            disk.make_folders(path.parent, "store.work")
            try:
                return lock.exclusive(path, wait=wait, on_wait=on_wait)
            except Busy as busy:
                what = f"{stage} {key[:12]} is being made by another process"
                raise Busy(what, busy.host, busy.pid, busy.since) from None
