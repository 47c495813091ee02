"""What the training loops share: optimisers from configs, steps that survive a bad loss, health, resume."""

import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvd import log
from hvd.errors import CheckFailedError, InputError
from hvd.training import checkpoint, optim
from stages.training_specs import AdamW, Optimizer

_MAX_BAD_STEPS = 5  # in a row
_REPORTS = 40  # lines of history in one training
_INTERVAL_S = 10.0  # between lines of progress


def build_optimizer(config: Optimizer, parts: list[tuple[nn.Module, float]]) -> torch.optim.Optimizer:
    """The optimiser over `parts`, each a module with its own peak learning rate."""
    groups = [{"params": optim.trainable(module), "lr": lr} for module, lr in parts]
    if isinstance(config, AdamW):
        return optim.adamw(groups, config.weight_decay)
    return optim.sgd(groups, config.momentum, config.dampening, config.weight_decay)


def lr_share(config: Optimizer, step: int, total: int) -> float:
    """Share of the peak learning rate at `step` of `total`."""
    if isinstance(config, AdamW):
        return optim.one_cycle(step, total, config.warmup)
    return optim.cosine(step, total)


def about_bytes(networks: nn.Module) -> int:
    """About what a training takes on the disk: the result, and three checkpoints of weights and two moments."""
    weights: int = sum(value.nbytes for value in networks.state_dict().values())
    return (1 + 3 * 3) * weights


class Training:
    """The state of a running training: steps done, networks, optimiser and the history of its health figures."""

    def __init__(
        self, name: str, total: int, networks: nn.Module, optimizer: torch.optim.Optimizer, scratch: Path
    ) -> None:
        self.name, self.total, self.scratch = name, total, scratch
        self.networks, self.optimizer = networks, optimizer
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._sums: dict[str, float] = defaultdict(float)  # since the last line of history
        self._counts: dict[str, int] = defaultdict(int)
        self._bad: list[dict[str, Any]] = []  # the batches skipped since the last good step
        self._printed = time.monotonic()
        self._clocks = _clocks()
        self._spent: tuple[float, float] | None = (0.0, 0.0)  # until the checkpoint that this run goes on from
        self._resume()
        self._buffers = [buffer.clone() for buffer in networks.buffers()]  # after the last good step

    @property
    def last(self) -> dict[str, float]:
        """The newest health figures."""
        return self.history[-1] if self.history else {}

    def metrics(self) -> dict[str, float]:
        """The newest health figures, the steps, and what they took, interrupted runs included.

        Time is in seconds, on the wall (`train_seconds`) and of this process's processors (`train_cpu_seconds`).
        """
        spent = self._time()
        named = zip(("train_seconds", "train_cpu_seconds"), spent, strict=True) if spent else ()
        return {**self.last, "steps": self.total, **{name: round(seconds, 3) for name, seconds in named}}

    def _time(self) -> tuple[float, float] | None:
        if self._spent is None:
            return None
        (wall, cpu), (wall_then, cpu_then), (wall_spent, cpu_spent) = _clocks(), self._clocks, self._spent
        return wall_spent + wall - wall_then, cpu_spent + cpu - cpu_then

    def advance(self, share: float, terms: dict[str, Tensor], tokens: list[str]) -> None:
        """Take one optimiser step from the gradients at hand, unless they or the loss are not finite.

        Args:
            share: of the peak learning rate.
            terms: named scalars; `loss` is the one that was differentiated.
            tokens: of the samples in the batch.

        Raises:
            CheckFailedError: that happened several times in a row.
        """
        values = {name: float(value.detach()) for name, value in terms.items()}
        if math.isfinite(values["loss"]) and self._gradients_are_finite():
            self._bad = []
            optim.set_lr(self.optimizer, share)
            self.optimizer.step()
            self._buffers = [buffer.clone() for buffer in self.networks.buffers()]
            for name, value in values.items():
                if math.isfinite(value):  # a health figure may have nothing to measure in a batch
                    self._sums[name] += value
                    self._counts[name] += 1
        else:
            self._skip(tokens)
        self.step += 1
        if self.step == self.total and len(self._bad) == self.total:
            raise CheckFailedError(
                "the loss or its gradient was not finite in any step", hint="lower the learning rate"
            )
        self._report()

    def save(self) -> None:
        """Write a checkpoint of everything that the next step depends on; none while steps are being skipped."""
        if self._bad:
            return
        checkpoint.save(
            self.scratch,
            self.step,
            {
                "networks": self.networks.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
                "sums": dict(self._sums),
                "counts": dict(self._counts),
                "spent": self._time(),
            },
        )

    def _resume(self) -> None:
        found = checkpoint.load_newest(self.scratch)
        if found is None:
            return
        self.step, state = found
        self._load(state["networks"], state["optimizer"])
        self.history = state["history"]
        self._sums, self._counts = defaultdict(float, state["sums"]), defaultdict(int, state["counts"])
        self._spent = state.get("spent")  # older checkpoints don't say
        log.info(f"{self.name}: resuming after step {self.step} of {self.total}")

    def _load(self, networks: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
        """Raises InputError if the code has changed since the checkpoint, so that it no longer fits."""
        shapes = {name: value.shape for name, value in self.networks.state_dict().items()}
        saved = {name: value.shape for name, value in networks.items()}
        odd = sorted(name for name in shapes.keys() | saved.keys() if shapes.get(name) != saved.get(name))
        if odd:
            raise self._foreign(f"{len(odd)} tensors differ: {odd[0]}")
        self.networks.load_state_dict(networks)
        try:
            self.optimizer.load_state_dict(optimizer)
        except ValueError as error:
            raise self._foreign(str(error)) from error

    def _foreign(self, why: str) -> InputError:
        what = f"{self.name}: the checkpoint of step {self.step} is of another network or optimiser"
        hint = "bring back the code that saved it, or delete that folder to begin anew"
        return InputError(what, where=self.scratch, why=why, hint=hint)

    def _gradients_are_finite(self) -> bool:
        gradients = [p.grad for p in self.networks.parameters() if p.grad is not None]
        return bool(torch.isfinite(nn.utils.get_total_norm(gradients)))

    def _skip(self, tokens: list[str]) -> None:
        """Leave the weights as they are, and put the batch-norm statistics back that the forward pass has changed."""
        for buffer, good in zip(self.networks.buffers(), self._buffers, strict=True):
            buffer.copy_(good)
        self._bad.append({"step": self.step, "tokens": tokens})
        log.warn(f"{self.name}: loss or gradient is not finite at step {self.step}, step skipped")
        if len(self._bad) == _MAX_BAD_STEPS:
            record = self.scratch / "bad_batch.json"
            record.write_text(json.dumps({"skipped": self._bad}, indent=1), encoding="utf8")
            checkpoint.discard_from(self.scratch, self._bad[0]["step"])
            raise CheckFailedError(
                f"the loss or its gradient was not finite in {len(self._bad)} steps in a row",
                where=record,
                hint="the file names the batches; lower the learning rate; the last good checkpoint is kept",
            )

    def _report(self) -> None:
        if self._counts and self.step * _REPORTS // self.total > (self.step - 1) * _REPORTS // self.total:
            means = {name: round(total / self._counts[name], 6) for name, total in self._sums.items()}
            self.history.append({"step": self.step, **means})
            self._sums, self._counts = defaultdict(float), defaultdict(int)
        now = time.monotonic()
        if self.history and (now - self._printed > _INTERVAL_S or self.step == self.total):
            self._printed = now
            log.info(f"{self.name} {self.step}/{self.total}: {_line(self.last)}")


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _line(figures: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in figures.items() if name != "step")
