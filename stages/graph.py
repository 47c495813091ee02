"""What a stage depends on: steps made by other stages, data sets, weight files and artifacts already in the store."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from hvd.config import Config
from hvd.datasets.fingerprint import Kind, Part
from stages.specs import Stage


@dataclass(frozen=True)
class Step:
    """One stage with its resolved config and its inputs; its key follows once the inputs' digests are known."""

    stage: Stage
    config: Config
    inputs: tuple[tuple[str, "Node"], ...] = ()

    @property
    def parents(self) -> tuple["Step", ...]:
        """The steps that must have run before this one."""
        nodes = (node for _, node in self.inputs)
        steps = (node.world if isinstance(node, Data) else node for node in nodes)
        return tuple(step for step in steps if isinstance(step, Step))


@dataclass(frozen=True)
class Data:
    """A data set in its own format: below `root`, or written by the `world` step, which may be in the store already.

    Only the files of `part` enter the digest, so that label files can't change a pre-training key: all of them by
    content if `full_hash`, else sweeps, images and labels of points by name and size.
    """

    dataset: Kind
    version: str | None
    part: Part
    root: Path | None = None
    world: "Step | Stored | None" = None
    full_hash: bool = False


@dataclass(frozen=True)
class File:
    """A file given by path, such as a checkpoint; its SHA-256 is its digest."""

    path: Path


@dataclass(frozen=True)
class Stored:
    """An artifact that is in the store already."""

    stage: str
    key: str


Node = Step | Data | File | Stored


def most_awaited_first(steps: list[Step]) -> list[Step]:
    """`steps` with those first that most others of them wait for: long chains begin early."""
    waiting = {step: sum(step in in_order((other,)) for other in steps) for step in steps}
    return sorted(steps, key=lambda step: -waiting[step])


def in_order(targets: tuple[Step, ...], known: Container[Step] = ()) -> list[Step]:
    """All steps that `targets` need, each once, parents first; none that is `known`, nor what that one needs."""
    ordered: dict[Step, None] = {}

    def visit(step: Step) -> None:
        if step in ordered or step in known:
            return
        for parent in step.parents:
            visit(parent)
        ordered[step] = None

    for target in targets:
        visit(target)
    return list(ordered)
