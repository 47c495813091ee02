"""Published artifacts: immutable folders with a manifest, and the search for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import content, layout, lock, manifest
from cache.errors import Corrupt, Newer, NotFound, StoreError, StoreIO, translated
from cache.manifest import Manifest


@dataclass(frozen=True)
class Artifact:
    """One artifact; the files in `path` never change after publication."""

    path: Path
    manifest: Manifest

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.manifest.stage

    @property
    def key(self) -> str:
        """sha256 of everything that could change the result."""
        return self.manifest.key

    @property
    def digest(self) -> str:
        """sha256 of its list of files: the same for the same content."""
        return self.manifest.digest

    @property
    def sequence(self) -> int:
        """Its number in the order of publication."""
        return self.manifest.sequence

    @property
    def size_bytes(self) -> int:
        """The files' sizes together."""
        return self.manifest.size_bytes

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the key is the digest of."""
        return self.manifest.key_inputs

    @property
    def parents(self) -> tuple[dict[str, str], ...]:
        """The artifacts it was made from: name, stage, key, digest."""
        return self.manifest.parents

    @property
    def details(self) -> dict[str, Any]:
        """What the stage recorded: versions, duration, metrics."""
        return self.manifest.details

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep `gc` away while the block reads the files.

        Raises:
            NotFound: it was removed in the meantime, also if the same was made again since.
        """
        where = self.path / manifest.NAME
        try:
            with translated(where):
                held = lock.shared(where)
        except StoreIO as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound("the artifact is gone", self.path) from None
            raise
        with held:
            if load(self.path) != self:
                raise NotFound("the artifact is gone", self.path)
            yield

    def verify(self, full: bool | Callable[[str], bool] = False) -> list[str]:
        """What is wrong with it, one line each, naming the file.

        `full` compares the bytes with their sha256: of every file, or of those whose path inside it is true for.
        """
        try:
            with translated(self.path):
                if load(self.path) != self:
                    return [f"{self.path / manifest.NAME}: missing, or changed since it was read"]
                entries = content.read_entries(self.path / content.NAME, self.digest)
                return content.compare(self.path, entries, full=full)
        except StoreError as error:
            return [str(error)]


def load(path: Path) -> Artifact | None:
    """The artifact in the folder `.../<stage>/<k2>/<key>`; None if it has no manifest.

    Raises:
        Corrupt: its manifest is damaged, or belongs to another key.
        Newer: it was written by a newer version.
        StoreIO: it can't be read.
    """
    where = path / manifest.NAME
    with translated(where):
        found = manifest.read_manifest(where)
    if found is None:
        return None
    if (found.stage, found.key) != (path.parent.parent.name, path.name):
        raise Corrupt("bad manifest", where, f"it belongs to {found.stage} {found.key}")
    return Artifact(path, found)


@dataclass(frozen=True)
class Damage:
    """An artifact that can't be read, and why."""

    path: Path
    error: Corrupt | Newer


def scan(root: Path, stage: str | None = None) -> Iterator[Artifact | Damage]:
    """Every artifact below a store's root, or those of one stage, in no useful order."""
    for path in layout.folders(root, stage):
        try:
            found = load(path)
        except (Corrupt, Newer) as error:
            yield Damage(path, error)
        else:
            if found is not None:
                yield found
