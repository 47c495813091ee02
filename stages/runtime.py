"""What a stage's module offers, and what it runs on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cache.work import Work


@dataclass(frozen=True)
class Runtime:
    """What may change a result only by rounding or not at all: recorded in the manifest, never in the key."""

    device: str = "auto"
    workers: int = 2
    wait: bool = True  # for another process that computes the same key
    recipe: str = "mini"  # the name only: what it says is in each step's config


class Run(Protocol):
    """The entry point of a stage's module: writes below `work.folder` and returns its metrics."""

    def __call__(self, config: Any, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]: ...
