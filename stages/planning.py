"""What running steps would do, and what it would take: `--dry-run`. Torch-free."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from cache.difference import difference
from cache.key import key_of
from cache.store import Store
from hvd.datasets.listing import Listing, list_frames
from hvd.world.config import WorldConfig
from stages.costs import Cost, cost, planned_listing
from stages.graph import Data, Step, Stored, in_order
from stages.inputs import Inputs
from stages.runner import Outcome


@dataclass(frozen=True)
class Status:
    """What running a step would do; the key is None while an input has yet to be computed."""

    step: Step
    state: str
    key: str | None
    reason: str
    cost: Cost  # of what would run

    def as_dict(self) -> dict[str, Any]:
        """For `--dry-run --json`."""
        named = {"stage": self.step.stage.name, "state": self.state, "key": self.key, "reason": self.reason}
        return {**named, **self.cost._asdict()}


@dataclass
class Planner:
    """Looks steps up without running them; what it finds is noted in `done`, which it shares with a runner."""

    store: Store
    inputs: Inputs
    done: dict[Step, Outcome]

    def plan(self, targets: tuple[Step, ...]) -> list[Status]:
        """What running `targets` would do, step by step, parents first.

        Raises:
            InputError: a data set or an artifact that they need is not there.
            UsageError: more labels asked for than there are.
        """
        listing_of = cache(self._listing)  # many steps read one data set

        def config_of(node: Stored) -> dict[str, Any]:
            config: dict[str, Any] = self.inputs.find(node).key_inputs["config"]
            return config

        out: dict[Step, Status] = {}
        for step in in_order(targets):
            state, key, why = self._state(step, [p for p in step.parents if out[p].state != "hit"])
            price = Cost() if state == "hit" else cost(step, listing_of, config_of)
            out[step] = Status(step, state, key, why, price)
        return list(out.values())

    def _state(self, step: Step, waiting: list[Step]) -> tuple[str, str | None, str]:
        """State, key and reason."""
        if waiting:
            return "run", None, f"waits for {waiting[0].stage.name}"
        inputs = self.inputs.of_key(step)
        key = key_of(inputs)
        found = self.store.find(step.stage.name, key)
        if found:
            self.done[step] = Outcome(found, "hit", 0.0)
            return "hit", key, ""
        return "locked" if self.store.owner(step.stage.name, key) else "run", key, self._why(step, inputs)

    def _why(self, step: Step, inputs: dict[str, Any]) -> str:
        nearest = self.store.nearest(step.stage.name, inputs)
        if nearest is None:
            return f"no {step.stage.name} artifact yet"
        changes = difference(nearest.key_inputs, inputs)
        return "differs from " + nearest.key[:8] + " in " + ", ".join(name for name, _, _ in changes[:4])

    def _listing(self, data: Data) -> Listing:
        if isinstance(data.world, Step) and data.world not in self.done:
            assert isinstance(data.world.config, WorldConfig), data.world
            return planned_listing(data.world.config)
        return list_frames(self.inputs.resolve(data).path, data.dataset, data.version)
