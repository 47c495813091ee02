"""What a training does about values that are not finite, foreign checkpoints and interrupted runs."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from hvd.errors import CheckFailedError, InputError
from hvd.training import checkpoint, optim
from stages.training import Training


@pytest.fixture
def training(tmp_path: Path) -> Training:
    torch.manual_seed(0)
    networks = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = optim.sgd([{"params": list(networks.parameters()), "lr": 0.1}], 0.9, 0.0, 0.0)
    return Training("x", 100, networks, optimizer, tmp_path)


def step(training: Training, value: float = 1.0, scale: float = 1.0) -> None:
    """One step on a batch whose first input is `value`; the loss is multiplied by `scale`, finite itself."""
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(training.step))
    inputs[0, 0] *= value
    training.optimizer.zero_grad()
    loss = training.networks(inputs).square().sum()
    (scale * loss).backward()
    training.advance(1.0, {"loss": loss}, [f"token-{training.step}"])


def state(training: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.networks.state_dict().items()}


@pytest.mark.parametrize("fault", [{"value": float("nan")}, {"value": float("inf")}, {"scale": float("inf")}])
def test_a_bad_step_changes_neither_weights_nor_statistics(training: Training, fault: dict[str, float]) -> None:
    step(training)
    before = state(training)
    step(training, **fault)
    after = state(training)
    assert all(torch.equal(before[name], after[name]) for name in before)
    step(training)
    assert all(value.isfinite().all() for value in state(training).values())
    assert not torch.equal(before["0.weight"], state(training)["0.weight"])


@pytest.mark.parametrize("first", [1.0, float("nan")])
def test_a_short_training_without_one_good_step_gives_nothing(training: Training, first: float) -> None:
    training.total = 2
    step(training, value=first)
    if first == 1.0:
        step(training, value=float("nan"))
        return
    with pytest.raises(CheckFailedError, match="not finite in any step"):
        step(training, value=float("nan"))


def test_five_bad_steps_in_a_row_end_it_and_name_the_batches(training: Training) -> None:
    for _ in range(3):
        step(training)
        training.save()
    for _ in range(4):
        step(training, value=float("nan"))
        training.save()  # as a signal or the interval would: nothing is written now
    with pytest.raises(CheckFailedError, match=r"5 steps in a row: .*bad_batch\.json") as caught:
        step(training, value=float("nan"))
    assert caught.value.exit_code == 7
    skipped = json.loads((training.scratch / "bad_batch.json").read_text())["skipped"]
    assert [(item["step"], item["tokens"]) for item in skipped] == [(i, [f"token-{i}"]) for i in range(3, 8)]
    found = checkpoint.load_newest(training.scratch)
    assert found is not None and found[0] == 2  # the newest whose weights have given a finite loss
    assert all(value.isfinite().all() for value in found[1]["networks"].values())


@pytest.mark.parametrize("grown", ["networks", "optimizer"])
def test_a_checkpoint_that_no_longer_fits_is_refused_with_the_way_out(training: Training, grown: str) -> None:
    step(training)
    training.save()
    networks = nn.Sequential(*training.networks, *([nn.Linear(4, 4)] if grown == "networks" else []))
    groups = [{"params": [weight], "lr": 0.1} for weight in networks.parameters()]
    optimizer = optim.sgd(groups if grown == "optimizer" else groups[:1], 0.9, 0.0, 0.0)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    with pytest.raises(InputError, match=r"checkpoint of step 1 is of another network.* delete that folder") as caught:
        Training("x", 100, networks, optimizer, training.scratch)
    assert str(training.scratch) in str(caught.value)
    assert len(list(training.scratch.glob("step-*.pt"))) == 1
    if grown == "networks":
        assert all(torch.equal(before[name], value) for name, value in networks.state_dict().items())


def test_four_bad_steps_are_survived(training: Training) -> None:
    for bad in (True, True, True, True, False) * 2:
        step(training, value=float("nan") if bad else 1.0)
    assert training.step == 10 and not (training.scratch / "bad_batch.json").exists()


def test_time_of_interrupted_runs_counts_up_to_their_last_checkpoint(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0, 0.0]
    monkeypatch.setattr("stages.training._clocks", lambda: (now[0], now[1]))
    training._clocks = (0.0, 0.0)
    now[:] = 10.0, 4.0
    step(training)
    training.save()
    now[:] = 500.0, 400.0  # lost: after the checkpoint, and until somebody goes on
    resumed = Training("x", 100, training.networks, training.optimizer, training.scratch)
    now[:] = 507.0, 403.0
    figures = resumed.metrics()
    assert (figures["train_seconds"], figures["train_cpu_seconds"]) == (17.0, 7.0)


def test_a_step_has_its_own_rate_and_history_the_mean_since_the_line_before(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    optimizer = optim.sgd([{"params": list(network.parameters()), "lr": 1.0}], 0.0, 0.0, 0.0)
    training = Training("x", 80, network, optimizer, tmp_path)  # forty lines of two steps each
    before = network.weight.detach().clone()
    for loss, share in ((1.0, 0.0), (3.0, 0.5)):
        optimizer.zero_grad()
        network.weight.sum().backward()
        training.advance(share, {"loss": torch.tensor(loss)}, [])
    assert float((before - network.weight).detach()) == pytest.approx(0.5)
    assert training.history == [{"step": 2, "loss": 2.0}]
