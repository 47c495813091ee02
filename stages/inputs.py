"""What goes into a step: inputs made concrete, their digests, and whether they are still what they were."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cache.artifact import Artifact
from cache.key import digest_of_file
from cache.store import Store
from cache.work import Work
from hvd.datasets.fingerprint import fingerprint, snapshot, state_of
from hvd.errors import InputError
from stages.graph import Data, File, Node, Step, Stored
from stages.intact import require_intact

SCHEMA = 1
WORLD_ORIGIN = "built-in world"
_AND = " + "  # between the places that one data set came from
FileStates = dict[Path, tuple[int, int]]  # size and modification time of each file of an input


@dataclass(frozen=True)
class Resolved:
    """An input made concrete: where it lies, and the digest that enters the key."""

    path: Path
    digest: str
    artifact: Artifact | None = None


class Inputs:
    """Resolves nodes against a store; the digest of what lies outside of it is taken once."""

    def __init__(self, store: Store, made: Callable[[Step], Artifact]) -> None:
        self._store, self._made = store, made
        self._digests: dict[Node, str] = {}
        self._seen: dict[Node, FileStates] = {}  # as they were when the digest was taken

    def of_key(self, step: Step) -> dict[str, Any]:
        """The object whose canonical JSON is hashed to the step's key; all parents must be in the store."""
        inputs = {name: self.resolve(node).digest for name, node in step.inputs}
        stage = step.stage
        return {
            "schema": SCHEMA,
            "stage": stage.name,
            "version": stage.version,
            "config": step.config.resolved(),
            "inputs": inputs,
        }

    @staticmethod
    def full_hashes(step: Step) -> list[str]:
        """The data sets among a step's inputs whose files enter the key by content, all of them."""
        return [name for name, node in step.inputs if isinstance(node, Data) and node.full_hash]

    def origins(self, step: Step) -> dict[str, str]:
        """Where the data behind `step` came from, by data set: a root, the built-in world, or several if mixed."""
        found: dict[str, set[str]] = {}
        for _, node in step.inputs:
            if isinstance(node, Data):
                found.setdefault(node.dataset, set()).add(str(node.root) if node.root else WORLD_ORIGIN)
            elif isinstance(node, Step | Stored) and (artifact := self.resolve(node).artifact):
                for dataset, places in artifact.details["data"].items():
                    found.setdefault(dataset, set()).update(places.split(_AND))
        return {dataset: _AND.join(sorted(places)) for dataset, places in found.items()}

    def states(self, step: Step) -> dict[str, str]:
        """A digest of the sizes and times of each data set's files, by input, as they were when the key was made.

        They tell apart what a fingerprint takes for the same: an image that was mended and has the size it had.
        """
        data = {name: node for name, node in step.inputs if isinstance(node, Data)}
        return {name: _digest_of(self._seen[node], self.resolve(node).path) for name, node in data.items()}

    def require_unchanged(self, step: Step, key_inputs: dict[str, Any], work: Work) -> None:
        """Raises InputError, and drops the work, if data or files are no longer what entered the key."""
        for name, node in step.inputs:
            if not isinstance(node, Data | File):
                continue
            before = self._seen[node]
            if isinstance(node, Data) and node.full_hash:
                place = self.resolve(node).path, node.dataset, node.version, node.part
                if snapshot(*place) == before:
                    continue  # it may be hundreds of gigabytes, read a moment ago
            del self._digests[node]
            digest = self.resolve(node).digest
            now = self._seen[node]
            changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
            if changed or digest != key_inputs["inputs"][name]:
                work.clear()  # or the next run would go on with parts made from both
                where = changed[0] if changed else self.resolve(node).path
                raise InputError(f"input {name} changed while {step.stage.name} ran", where=where,
                                 hint="nothing was published; run again")  # fmt: skip

    def resolve(self, node: Node) -> Resolved:
        """Where a node lies, and its digest.

        Raises:
            InputError: there is no such file, data set or artifact.
            CorruptError: the data set is a world in the store, and lacks files.
        """
        match node:
            case Step():
                artifact = self._made(node)
                return Resolved(artifact.path, artifact.digest, artifact)
            case Stored():
                stored = self.find(node)
                return Resolved(stored.path, stored.digest, stored)
            case File():
                states = partial(_states_of_file, node.path)
                return Resolved(node.path, self._digest(node, partial(digest_of_file, node.path), states))
            case Data():
                return self._resolve_data(node)

    def find(self, node: Stored) -> Artifact:
        """The artifact of a node.

        Raises:
            InputError: it is not in the store.
        """
        found = self._store.find(node.stage, node.key)
        if found is None:
            raise InputError("no such artifact in the store", where=node.key, hint="see: hvd ls")
        return found

    def _resolve_data(self, node: Data) -> Resolved:
        artifact = self.resolve(node.world).artifact if node.world else None
        root = artifact.path if artifact else node.root
        assert root is not None, "a data set has a root or a world"
        place = root, node.dataset, node.version, node.part
        try:
            digest = self._digest(
                node, partial(fingerprint, *place, contents=node.full_hash), partial(snapshot, *place)
            )
        except InputError:
            if artifact:
                require_intact(artifact)  # a file that a stored world lacks is damage, which can be repaired
            raise
        return Resolved(root, digest, artifact)

    def _digest(self, node: Node, find: "partial[str]", states: "partial[FileStates]") -> str:
        if node not in self._digests:
            seen = states()  # first: a change while the digest is taken is a change too
            self._digests[node] = find()
            self._seen[node] = seen
        return self._digests[node]


def _digest_of(states: FileStates, root: Path) -> str:
    """The same wherever the files lie."""
    listed = sorted([path.relative_to(root).as_posix(), *state] for path, state in states.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _states_of_file(path: Path) -> FileStates:
    return {path: state_of(path)}
