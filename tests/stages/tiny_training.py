"""A training stage of four steps on a network of a few weights, with the real checkpoints, for the campaign."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cache.work import Work
from hvd.config import Config
from hvd.training import optim
from stages.graph import Step
from stages.runtime import Runtime
from stages.specs import Stage
from stages.training import Training

STEPS = 4
SAVED = BEGUN = Path()  # where a run tells its test what it saved last, and at which step it began


class TinyConfig(Config):
    """Nothing to choose."""


def step() -> Step:
    return Step(Stage("tiny-training", 1, "tests.stages.tiny_training", trains=True), TinyConfig())


def run(config: TinyConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimizer = optim.sgd([{"params": optim.trainable(network), "lr": 0.1}], 0.9, 0.1, 0.0)
    training = Training("tiny", STEPS, network, optimizer, work.scratch)
    BEGUN.write_text(str(training.step))
    for number in range(training.step, STEPS):
        loss = network(torch.full((1, 3), float(number))).square().mean()
        training.optimizer.zero_grad()
        loss.backward()
        training.advance(1.0, {"loss": loss}, [])
        training.save()
        SAVED.write_text(str(training.step))
    (work.folder / "weights.txt").write_text(
        repr({name: value.tolist() for name, value in network.state_dict().items()})
    )
    return training.last
