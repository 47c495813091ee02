"""Plan and run steps: resolve inputs to digests, look the key up, and only on a miss import the stage and run it."""

import importlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cache.artifact import Artifact
from cache.difference import difference
from cache.key import digest_of_file, key_of
from cache.store import Store
from cache.work import Work
from hvd import log
from hvd.datasets.fingerprint import fingerprint
from hvd.errors import InputError, UsageError
from hvd.pool import worker_pool
from stages.graph import Data, File, Node, Step, Stored, in_order, most_awaited_first
from stages.intact import require_intact
from stages.provenance import provenance

SCHEMA = 1
WORLD_ORIGIN = "built-in world"


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


@dataclass(frozen=True)
class Resolved:
    """An input made concrete: where it lies, and the digest that enters the key."""

    path: Path
    digest: str
    artifact: Artifact | None = None


@dataclass(frozen=True)
class Outcome:
    """How a step ended: `hit` (found) or `run` (computed), in how many seconds."""

    artifact: Artifact
    state: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        found = self.artifact
        return {
            "stage": found.stage,
            "key": found.key,
            "path": str(found.path),
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "metrics": found.details["metrics"],
        }


@dataclass(frozen=True)
class Status:
    """What running a step would do; the key is None while an input has yet to be computed."""

    step: Step
    state: str
    key: str | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For `--dry-run --json`."""
        return {"stage": self.step.stage.name, "state": self.state, "key": self.key, "reason": self.reason}


@dataclass
class Runner:
    """Runs steps against one store, each at most once."""

    store: Store
    runtime: Runtime = Runtime()
    done: dict[Step, Outcome] = field(default_factory=dict)
    _digests: dict[Node, str] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)

    def run(self, target: Step) -> Outcome:
        """Compute what `target` needs, then `target`, in this process.

        Raises:
            HvdError, StoreError: the first step that fails; what was finished stays in the store.
        """
        steps = in_order((target,))
        with self._keeping(steps):
            for step in steps:
                self._run_one(step)
        return self.done[target]

    def repair(self, step: Step, damaged: Artifact) -> Outcome:
        """Compute `step` anew in the place of its `damaged` artifact, which stays until the new one is complete.

        Raises:
            HvdError, StoreError: as `run`; the damaged artifact is still there.
        """
        with self._keeping([step]):
            outcome = self._compute(step, damaged.key, self.key_inputs(step), replaces=damaged)
        self.done[step] = outcome
        return outcome

    def run_all(self, targets: tuple[Step, ...], jobs: int) -> None:
        """Run every step of `targets`, up to `jobs` at a time in processes of their own; parallel stages run alone."""
        steps = in_order(targets)
        with self._keeping(steps):
            for step in steps:
                if step.stage.parallel:
                    self._run_one(step)
            missing = self._misses(steps)
            if missing:
                self._run_pool(missing, jobs)
            for step in steps:
                self._run_one(step)

    def key_inputs(self, step: Step) -> dict[str, Any]:
        """The object whose canonical JSON is hashed to the step's key; all parents must be in the store."""
        inputs = {name: self._resolve(node).digest for name, node in step.inputs}
        stage = step.stage
        return {
            "schema": SCHEMA,
            "stage": stage.name,
            "version": stage.version,
            "config": step.config.resolved(),
            "inputs": inputs,
        }

    def status(self, targets: tuple[Step, ...]) -> list[Status]:
        """What running `targets` would do, step by step, without doing it."""
        out: dict[Step, Status] = {}
        for step in in_order(targets):
            waiting = [p for p in step.parents if out[p].state != "hit"]
            if waiting:
                out[step] = Status(step, "run", None, f"waits for {waiting[0].stage.name}")
                continue
            key = key_of(self.key_inputs(step))
            found = self.store.find(step.stage.name, key)
            if found:
                self.done[step] = Outcome(found, "hit", 0.0)
                out[step] = Status(step, "hit", key, "")
            else:
                locked = self.store.owner(step.stage.name, key)
                out[step] = Status(step, "locked" if locked else "run", key, self._why(step))
        return list(out.values())

    def choose(self, stage: str, given: str | None, dataset: str | None = None) -> Artifact | None:
        """The artifact of `stage` whose key begins with `given`; without, the newest of this recipe and `dataset`."""
        if given is not None:
            found = self.store.resolve(given)
            if found.stage != stage:
                raise UsageError(
                    f"{given} is a {found.stage} artifact", hint=f"name a {stage} artifact: hvd ls {stage}"
                )
            return found

        def fits(item: Artifact) -> bool:
            config = item.key_inputs["config"]
            return item.details["recipe"] == self.runtime.recipe and dataset in (None, config.get("dataset"))

        return self.store.newest(stage, fits)

    def refuse_mixing(self, found: Artifact, origin: str | None) -> None:
        """Real data and the built-in world are never mixed in silently.

        Raises:
            InputError: `found` comes from one and `origin` (a data root, or None for the world) is the other.
        """
        real = sorted(place for place in found.details["data"].values() if place != WORLD_ORIGIN)
        if real and origin is None:
            raise InputError(
                f"{found.stage} {found.key[:8]} comes from {real[0]}, and this data set from the built-in world",
                hint="pass --root, or name the artifact with --from",
            )
        if not real and origin is not None:
            raise InputError(
                f"{found.stage} {found.key[:8]} comes from the built-in world, and this data set from {origin}",
                hint="name the artifact with --from to mix them",
            )

    def copy(self, step: Step, folder: Path) -> None:
        """Copy a finished step's files, without the store's own, into `folder`."""
        require_intact(self.done[step].artifact)
        source = self.done[step].artifact.path
        shutil.copytree(
            source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json", "files.json")
        )

    @contextmanager
    def _keeping(self, steps: list[Step]) -> Iterator[None]:
        """Until the block ends, gc stays away from what `steps` take from the store and from what is done."""
        with ExitStack() as self._held:
            for item in [outcome.artifact for outcome in self.done.values()] + self._stored(steps):
                self._held.enter_context(item.reading())
            yield

    def _stored(self, steps: list[Step]) -> list[Artifact]:
        nodes = {node.world if isinstance(node, Data) else node for step in steps for _, node in step.inputs}
        found = (self._resolve(node).artifact for node in nodes if isinstance(node, Stored))
        return [item for item in found if item]

    def _finish(self, step: Step, outcome: Outcome) -> None:
        self._held.enter_context(outcome.artifact.reading())
        self.done[step] = outcome

    def _why(self, step: Step) -> str:
        inputs = self.key_inputs(step)
        nearest = self.store.nearest(step.stage.name, inputs)
        if nearest is None:
            return f"no {step.stage.name} artifact yet"
        changes = difference(nearest.key_inputs, inputs)
        return "differs from " + nearest.key[:8] + " in " + ", ".join(name for name, _, _ in changes[:4])

    def _misses(self, steps: list[Step]) -> list[Step]:
        """The steps that are not in the store, or that depend on one that is not."""
        missing: dict[Step, None] = {}
        for step in steps:
            if step in self.done:
                continue
            if any(p in missing for p in step.parents):
                missing[step] = None
                continue
            found = self.store.find(step.stage.name, key_of(self.key_inputs(step)))
            if found:
                self._finish(step, Outcome(found, "hit", 0.0))
            else:
                missing[step] = None
        return list(missing)

    def _run_pool(self, missing: list[Step], jobs: int) -> None:
        left = dict.fromkeys(most_awaited_first(missing))
        alone = replace(self.runtime, workers=0)  # the jobs fill the machine: none brings workers of its own
        pending: dict[Future[tuple[str, float]], Step] = {}
        finished = 0
        with worker_pool(jobs, "reproduce") as pool:
            while left or pending:
                ready = [s for s in left if all(p in self.done for p in s.parents)]
                for step in ready[: jobs - len(pending)]:
                    del left[step]
                    pending[pool.submit(_run_in_child, self.store.root, alone, step)] = step
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    step = pending.pop(future)
                    key, seconds = future.result()
                    artifact = self.store.find(step.stage.name, key)
                    assert artifact is not None, f"{step.stage.name} {key} was published and is gone"
                    self._finish(step, Outcome(artifact, "run", seconds))
                    finished += 1
                    log.info(f"[{finished}/{len(missing)}] {step.stage.name} {key[:8]} done in {seconds:.0f} s")

    def _run_one(self, step: Step) -> None:
        if step in self.done:
            return
        key_inputs = self.key_inputs(step)
        key = key_of(key_inputs)
        found = self.store.find(step.stage.name, key)
        self._finish(step, Outcome(found, "hit", 0.0) if found else self._compute(step, key, key_inputs))

    def _compute(self, step: Step, key: str, key_inputs: dict[str, Any], replaces: Artifact | None = None) -> Outcome:
        start = time.monotonic()
        resolved = {name: self._resolve(node) for name, node in step.inputs}
        with self.store.claim(step.stage.name, key, wait=self.runtime.wait, replaces=replaces) as work:
            if work.artifact:
                return Outcome(work.artifact, "hit", time.monotonic() - start)
            for item in resolved.values():
                if item.artifact:
                    require_intact(item.artifact)
            log.info(f"{step.stage.name} {key[:8]}: running")
            module = importlib.import_module(step.stage.module)
            paths = {name: item.path for name, item in resolved.items()}
            metrics = module.run(step.config, paths, work, self.runtime)
            self._check_unchanged(step, key_inputs)
            seconds = time.monotonic() - start
            parents = [
                {"name": name, "stage": item.artifact.stage, "key": item.artifact.key, "digest": item.digest}
                for name, item in resolved.items()
                if item.artifact
            ]
            sources = {name: str(item.path.absolute()) for name, item in resolved.items() if not item.artifact}
            details = {
                **provenance(module.__name__),
                "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "sources": sources,
                "recipe": self.runtime.recipe,
                "data": self._origins(step),
                "device": self.runtime.device,
                "seconds": round(seconds, 3),
                "metrics": metrics,
            }
            artifact = work.publish(key_inputs, parents, details)
        return Outcome(artifact, "run", seconds)

    def _origins(self, step: Step) -> dict[str, str]:
        """Where the data behind `step` came from, by data set: a root, or the built-in world."""
        out: dict[str, str] = {}
        for _, node in step.inputs:
            if isinstance(node, Data):
                out[node.dataset] = str(node.root) if node.root else WORLD_ORIGIN
            elif isinstance(node, Step | Stored) and (artifact := self._resolve(node).artifact):
                out |= artifact.details["data"]
        return out

    def _check_unchanged(self, step: Step, key_inputs: dict[str, Any]) -> None:
        for name, node in step.inputs:
            if not isinstance(node, Data | File):
                continue
            self._digests.pop(node, None)
            resolved = self._resolve(node)
            if resolved.digest != key_inputs["inputs"][name]:
                raise InputError(f"input {name} changed while {step.stage.name} ran", where=resolved.path,
                                 hint="nothing was published; run again")  # fmt: skip

    def _resolve(self, node: Node) -> Resolved:
        match node:
            case Step():
                artifact = self.done[node].artifact
                return Resolved(artifact.path, artifact.digest, artifact)
            case Stored():
                stored = self.store.find(node.stage, node.key)
                if stored is None:
                    raise InputError("no such artifact in the store", where=node.key, hint="see: hvd ls")
                return Resolved(stored.path, stored.digest, stored)
            case File():
                return Resolved(node.path, self._digest(node, partial(digest_of_file, node.path)))
            case Data():
                return self._resolve_data(node)

    def _resolve_data(self, node: Data) -> Resolved:
        artifact = self._resolve(node.world).artifact if node.world else None
        root = artifact.path if artifact else node.root
        assert root is not None, "a data set has a root or a world"
        find = partial(fingerprint, root, node.dataset, node.version, node.part)
        return Resolved(root, self._digest(node, find), artifact)

    def _digest(self, node: Node, find: "partial[str]") -> str:
        if node not in self._digests:
            self._digests[node] = find()
        return self._digests[node]


def _run_in_child(root: Path, runtime: Runtime, step: Step) -> tuple[str, float]:
    """In a worker process: the parents are in the store, so this computes `step` alone."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle OpenMP threads must not spin beside the other job
    outcome = Runner(store=Store(root), runtime=runtime).run(step)
    return outcome.artifact.key, outcome.seconds
