"""What an artifact was made from: `hvd show --lineage`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cache.artifact import Artifact
    from cache.store import Store


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


def cells(item: "Artifact") -> dict[str, str]:
    """The cell of a result table that each of its inputs fills; empty for other artifacts."""
    if item.stage != "table":
        return {}
    names = [parent["name"] for parent in item.parents]
    named = zip(names, item.key_inputs["config"]["cells"], strict=True)
    return {name: f"{row}, {column}, seed {seed}" for name, (row, column, seed) in named}
