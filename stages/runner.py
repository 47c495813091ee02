"""Run steps: resolve inputs to digests, look the key up, and only on a miss import the stage and run it."""

import importlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cache.artifact import Artifact
from cache.key import key_of
from cache.lock import Owner
from cache.store import Store
from hvd import log
from hvd.errors import InputError, ResourceError
from hvd.pool import worker_pool
from stages.copying import copy_files
from stages.graph import Data, Step, Stored, in_order, most_awaited_first
from stages.inputs import Inputs
from stages.intact import require_intact
from stages.provenance import provenance
from stages.resume import take_up
from stages.runtime import Run, Runtime
from stages.specs import Stage

if TYPE_CHECKING:
    from stages.planning import Status

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")  # torch has no type for all of them


@dataclass(frozen=True)
class Outcome:
    """How a step ended: `hit` (found) or `run` (computed), in how many seconds.

    Of these, `store_seconds` went to the store: checks of the inputs, hashes, flushing to the disk, publication.
    """

    artifact: Artifact
    state: str
    seconds: float
    store_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        found = self.artifact
        return {
            "stage": found.stage,
            "key": found.key,
            "path": str(found.path),
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "store_seconds": round(self.store_seconds, 3),
            "metrics": found.details["metrics"],
        }


@dataclass
class Runner:
    """Runs steps against one store, each at most once."""

    store: Store
    runtime: Runtime = field(default_factory=Runtime)
    done: dict[Step, Outcome] = field(default_factory=dict)
    _held: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.inputs = Inputs(self.store, lambda step: self.done[step].artifact)

    def run(self, target: Step) -> Outcome:
        """Compute what `target` needs, then `target`, in this process.

        Raises:
            HvdError, StoreError: the first step that fails; what was finished stays in the store.
        """
        steps = in_order((target,), self.done)
        with self._keeping(steps):
            for step in steps:
                self._run_one(step)
        return self.done[target]

    def take(self, parents: Mapping[Step, str]) -> None:
        """Count the steps with these keys, which are in the store, as done: they are not looked at again."""
        for step, key in parents.items():
            self.done[step] = Outcome(self.inputs.find(Stored(step.stage.name, key)), "hit", 0.0)

    def repair(self, step: Step, damaged: Artifact) -> Outcome:
        """Compute `step` anew in the place of its `damaged` artifact, which stays until the new one is complete.

        Raises:
            HvdError, StoreError: as `run`; the damaged artifact is still there.
        """
        with self._keeping([step]):
            outcome = self._compute(step, damaged.key, self.inputs.of_key(step), replaces=damaged)
        self.done[step] = outcome
        return outcome

    def run_all(self, targets: tuple[Step, ...], jobs: int, tell: Callable[[Step], None] | None = None) -> None:
        """Run every step of `targets`, up to `jobs` at a time in processes of their own; parallel stages run alone.

        Args:
            tell: called with each step as soon as it is run, and at the start with all that are in `done`. With it,
                steps run in the order of `targets`; without, those first that most others wait for.
        """
        steps = in_order(targets)
        with self._keeping(steps):
            for step in steps:
                if step.stage.parallel:
                    self._run_one(step)
            missing = self._misses(steps)
            if tell is None:
                missing, tell = most_awaited_first(missing), lambda _: None
            for step in self.done:
                tell(step)
            if missing:
                self._run_pool(missing, jobs, tell)

    def status(self, targets: tuple[Step, ...]) -> list["Status"]:
        """What running `targets` would do, step by step, without doing it."""
        from stages.planning import Planner  # with the readers behind it: a run that finds everything needs none

        return Planner(self.store, self.inputs, self.done).plan(targets)

    def copy(self, step: Step, folder: Path) -> None:
        """Copy a finished step's files, without the store's own, into `folder`; raises as `copy_files`."""
        copy_files(self.done[step].artifact, folder)

    @contextmanager
    def _keeping(self, steps: list[Step]) -> Iterator[None]:
        """Until the block ends, gc stays away from what `steps` take from the store and from what is done."""
        with ExitStack() as self._held:
            for item in [outcome.artifact for outcome in self.done.values()] + self._stored(steps):
                self._held.enter_context(item.reading())
            yield

    def _stored(self, steps: list[Step]) -> list[Artifact]:
        nodes = {node.world if isinstance(node, Data) else node for step in steps for _, node in step.inputs}
        found = (self.inputs.resolve(node).artifact for node in nodes if isinstance(node, Stored))
        return [item for item in found if item]

    def _finish(self, step: Step, outcome: Outcome) -> None:
        self._held.enter_context(outcome.artifact.reading())
        self.done[step] = outcome

    def _misses(self, steps: list[Step]) -> list[Step]:
        """The steps that are not in the store, or that depend on one that is not."""
        missing: dict[Step, None] = {}
        for step in steps:
            if step in self.done:
                continue
            if any(p in missing for p in step.parents):
                missing[step] = None
                continue
            found = self.store.find(step.stage.name, key_of(self.inputs.of_key(step)))
            if found:
                self._finish(step, Outcome(found, "hit", 0.0))
            else:
                missing[step] = None
        return list(missing)

    def _run_pool(self, missing: list[Step], jobs: int, tell: Callable[[Step], None]) -> None:
        left = dict.fromkeys(missing)
        alone = replace(self.runtime, workers=0)  # the jobs fill the machine: none brings workers of its own
        pending: dict[Future[tuple[str, float, float]], tuple[Step, str]] = {}
        finished = 0
        with worker_pool(jobs, "the stages", "--jobs") as pool:
            while left or pending:
                ready = [s for s in left if all(p in self.done for p in s.parents)]
                for step in ready[: jobs - len(pending)]:
                    del left[step]
                    key = key_of(self.inputs.of_key(step))
                    parents = {parent: self.done[parent].artifact.key for parent in step.parents}
                    job = pool.submit(_run_in_child, self.store.root, alone, log.is_quiet(), parents, step, key)
                    pending[job] = step, key
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    step, key = pending.pop(future)
                    state, seconds, store_seconds = future.result()
                    artifact = self.store.find(step.stage.name, key)
                    assert artifact is not None, f"{step.stage.name} {key} was published and is gone"
                    self._finish(step, Outcome(artifact, state, seconds, store_seconds))
                    finished += 1
                    log.info(f"[{finished}/{len(missing)}] {step.stage.name} {key[:8]} done in {seconds:.0f} s")
                    tell(step)

    def _run_one(self, step: Step) -> None:
        if step in self.done:
            return
        key_inputs = self.inputs.of_key(step)
        key = key_of(key_inputs)
        found = self.store.find(step.stage.name, key)
        self._finish(step, Outcome(found, "hit", 0.0) if found else self._compute(step, key, key_inputs))

    def _compute(self, step: Step, key: str, key_inputs: dict[str, Any], replaces: Artifact | None = None) -> Outcome:
        start = time.monotonic()
        resolved = {name: self.inputs.resolve(node) for name, node in step.inputs}

        def waiting(owner: Owner) -> None:
            log.info(f"{step.stage.name} {key[:8]}: waiting for process {owner.pid} on {owner.host}")

        claim = self.store.claim(step.stage.name, key, self.runtime.wait, replaces=replaces, on_wait=waiting)
        with claim as work:
            if work.artifact:
                return Outcome(work.artifact, "hit", time.monotonic() - start)
            for item in resolved.values():
                if item.artifact:
                    require_intact(item.artifact)
            log.info(f"{step.stage.name} {key[:8]}: running")
            begin = time.monotonic()
            module = importlib.import_module(step.stage.module)
            run: Run = module.run
            origin = provenance(module.__name__)  # now: the files may change while it runs
            older = take_up(work, step.stage, origin["code"], self.inputs.states(step))
            paths = {name: item.path for name, item in resolved.items()}
            with memory_errors(step.stage):
                metrics = run(step.config, paths, work, self.runtime)
            ended = time.monotonic()
            self.inputs.require_unchanged(step, key_inputs, work)
            seconds = time.monotonic() - start
            parents = [
                {"name": name, "stage": item.artifact.stage, "key": item.artifact.key, "digest": item.digest}
                for name, item in resolved.items()
                if item.artifact
            ]
            sources = {name: str(item.path.absolute()) for name, item in resolved.items() if not item.artifact}
            details = {
                **origin,
                **({"resumed_from_code": older} if older else {}),
                "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "sources": sources,
                **({"full_hash": hashed} if (hashed := self.inputs.full_hashes(step)) else {}),
                "recipe": self.runtime.recipe,
                "data": self.inputs.origins(step),
                "device": _device(module, self.runtime),
                "seconds": round(seconds, 3),
                "metrics": metrics,
            }
            artifact = work.publish(key_inputs, parents, details)
        return Outcome(artifact, "run", time.monotonic() - start, (begin - start) + (time.monotonic() - ended))


def _device(module: ModuleType, runtime: Runtime) -> str:
    """What a stage computed on: those that can use a GPU import `pick_device`, the others have no choice."""
    return str(module.pick_device(runtime.device)) if hasattr(module, "pick_device") else "cpu"


@contextmanager
def memory_errors(stage: Stage) -> Iterator[None]:
    """Say in one line that a stage ran out of memory, the GPU's or the machine's.

    Raises:
        ResourceError: in place of what Python or torch raise for it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in _OUT_OF_MEMORY):
            raise
        why = (str(error).splitlines() or [""])[0]
        smaller = "a smaller batch (in pretrain: more accumulate, which means fewer negatives); checkpoints are kept"
        hint = "free some, or use fewer --workers or --device cpu" + (f", or {smaller}" if stage.trains else "")
        raise ResourceError(f"{stage.name} ran out of memory", why=why, hint=hint) from error


def _run_in_child(
    root: Path, runtime: Runtime, quiet: bool, parents: Mapping[Step, str], step: Step, key: str
) -> tuple[str, float, float]:
    """In a worker process: compute `step` alone, from the artifacts of its `parents`.

    Raises:
        InputError: the data is no longer what it was when `key` was found.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle OpenMP threads must not spin beside the other job
    log.configure(quiet=quiet, prefix=key[:8])
    runner = Runner(store=Store(root), runtime=runtime)
    runner.take(parents)
    if key_of(runner.inputs.of_key(step)) != key:
        raise InputError(f"the data changed before {step.stage.name} read it", hint="run again")
    outcome = runner.run(step)
    return outcome.state, outcome.seconds, outcome.store_seconds
