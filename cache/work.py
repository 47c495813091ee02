"""A stage's work in progress: a private folder that survives a crash, and its publication in one atomic step."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cache import artifact, content, disk, layout, lock, manifest
from cache.artifact import Artifact
from cache.errors import NoSpace, NotPublishable, free_bytes, translated
from cache.key import key_of
from cache.manifest import Manifest

_NOTE = "begun.json"  # beside what is published and what is not


class Work:
    """What `Store.claim` yields: the exclusive right to make one artifact.

    Attributes:
        stage, key: which artifact.
        folder: what is put here will be published; what an interrupted run left is still here.
        scratch: for checkpoints: survives a crash, never published, deleted at publication.
        artifact: set if the artifact exists: made by another process in the meantime, or published here.
        expected_bytes: about what the work takes on the disk, once the stage can tell; said if the disk runs full.
    """

    def __init__(self, root: Path, stage: str, key: str, replaces: Artifact | None = None) -> None:
        self.stage, self.key = stage, key
        self._root, self._home = root, layout.work_of(root, stage, key)
        self._target = layout.path_of(root, stage, key)
        self.folder, self.scratch = self._home / "content", self._home / "scratch"
        found = artifact.load(self._target)
        self.artifact = None if found == replaces else found
        self._replaces = replaces  # its place and its number go to the new one
        self.expected_bytes: int | None = None

    def prepare(self, needs_bytes: int = 0) -> None:
        """Make the folders, dropping what an interrupted publication left in them.

        Raises:
            NoSpace: less than `needs_bytes` free.
            ReadOnly, StoreIO: the folders can't be made.
        """
        with translated(self._home, needs_bytes or None):
            free = free_bytes(self._root)
            if free < needs_bytes:
                raise NoSpace(self._root, needs_bytes, free)
            if self._target.exists() and artifact.load(self._target) is None:  # its manifest was deleted
                discard(self._root, self._target)
            disk.make_folders(self.folder, "store.work")
            disk.make_folders(self.scratch, "store.work")
            self._unseal()

    def note(self, begun: dict[str, Any]) -> None:
        """Write down what this work is begun with, for `noted` of the run that goes on with it; raises as `prepare`."""
        with translated(self._home):
            disk.write_whole(self._home / _NOTE, json.dumps(begun).encode(), "store.note")

    def noted(self) -> dict[str, Any] | None:
        """What the last `note` said; None if there is none that can be read."""
        try:
            begun = json.loads((self._home / _NOTE).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return begun if isinstance(begun, dict) else None

    def is_empty(self) -> bool:
        """Whether nothing is in `folder` and `scratch` that a run could go on with."""
        return not any(any(folder.iterdir()) for folder in (self.folder, self.scratch) if folder.is_dir())

    def clear(self) -> None:
        """Delete what is in `folder` and `scratch`, and the note; raises as `prepare` does."""
        with translated(self._home):
            disk.remove(self._home)
        self.prepare()

    def take(self, made: Path) -> None:
        """Put `made`, a folder in `scratch`, in the place of what an interrupted run left; raises as `prepare` does."""
        with translated(self.folder):
            disk.remove(self._home / _NOTE)  # it is of what goes now
            disk.remove(self.folder)
            disk.rename(made, self.folder, "unpack")

    def drop_if_empty(self) -> bool:
        """Whether nothing was begun: then its folders go, and no work is left that could go on."""
        empty = self.is_empty()
        if empty:
            disk.remove(self._home)
        return empty

    def publish(self, key_inputs: dict[str, Any], parents: list[dict[str, str]], details: dict[str, Any]) -> Artifact:
        """Make `folder` the artifact, in one step; `folder` and `scratch` are gone afterwards.

        `parents`: name, stage, key and digest of each artifact that went in; `details`: JSON types, no NaN.

        Raises:
            NotPublishable: `key_inputs` don't give this key, the artifact exists already, or `folder` holds
                something else than files and folders.
            NoSpace, ReadOnly, StoreIO: from the disk; the content stays for the next attempt.
        """
        if self.artifact is not None:
            raise NotPublishable("the artifact exists already", self._target)
        if key_of(key_inputs) != self.key:
            raise NotPublishable("the key is not that of its inputs", self._target)
        if not all(map(manifest.is_parent, parents)):
            raise NotPublishable("each parent needs name, stage, key and digest", self._target)
        with translated(self.folder, self.expected_bytes):
            try:
                sealed = self._seal_and_move(key_inputs, parents, details)
            finally:
                self._unseal()
            self.artifact = Artifact(self._target, manifest.parse(sealed, self._target / manifest.NAME))
            disk.remove(self._home)
        return self.artifact

    def _seal_and_move(
        self, key_inputs: dict[str, Any], parents: list[dict[str, str]], details: dict[str, Any]
    ) -> bytes:
        """Returns the manifest's bytes."""
        entries = content.seal(self.folder)
        listing = content.to_bytes(entries)
        disk.write(self.folder / content.NAME, listing, "store.files")
        with lock.exclusive(self._root / layout.LOCK):
            sealed = Manifest(
                stage=self.stage,
                key=self.key,
                digest=content.digest_of(listing),
                sequence=self._replaces.sequence if self._replaces else self._next_sequence(),
                size_bytes=sum(entry.size for entry in entries.values()),
                file_count=len(entries),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                key_inputs=key_inputs,
                parents=tuple(parents),
                details=details,
            ).to_bytes()
            disk.write(self.folder / manifest.NAME, sealed, "store.manifest")
            disk.flush(self.folder, "store.content")
            disk.make_folders(self._target.parent, "store.target")
            self._put_in_place()
        return sealed

    def _next_sequence(self) -> int:
        return 1 + max((item.sequence for item in artifact.scan(self._root) if isinstance(item, Artifact)), default=0)

    def _put_in_place(self) -> None:
        """Move `folder` to where the artifact belongs; one that it replaces is left in `folder`, or gone.

        Raises:
            Busy: another process reads the one that would be replaced.
        """
        if self._replaces is not None and artifact.load(self._target) is not None:
            with lock.exclusive_on_existing(self._target / manifest.NAME):
                if disk.exchange(self.folder, self._target, "store.artifact"):
                    return
                discard(self._root, self._target)
        disk.rename(self.folder, self._target, "store.artifact")

    def _unseal(self) -> None:
        for name in content.RESERVED:
            disk.remove(self.folder / name)


def discard(root: Path, path: Path) -> None:
    """Make a folder of the store vanish in one step, and then delete it; raises ReadOnly, StoreIO."""
    gone = layout.trash_of(root, path.name)
    with translated(path):
        disk.make_folders(gone.parent, "store.trash")
        disk.rename(path, gone, "store.trash")
        disk.remove(gone)
