"""Checkpoints, order, schedules, seeds."""

import os

import pytest
import torch

from hvd.errors import ResourceError
from hvd.training import checkpoint, loading, optim, seeding
from hvd.training.device import pick_device


def test_the_newest_intact_checkpoint_is_taken(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"x": torch.full((3,), step)})
    assert len(list(tmp_path.glob("*.pt"))) == 2
    newest = max(tmp_path.glob("*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    step, state = checkpoint.load_newest(tmp_path)
    assert step == 2
    assert torch.equal(state["x"], torch.full((3,), 2))


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint.load_newest(tmp_path) is None


def test_order_visits_every_item_once_a_pass():
    order = loading.Order(count=7, batch=3, seed=1)
    places = [item for step in range(7) for item in order.batch(step)]
    assert sorted(places[:7]) == sorted(places[7:14]) == sorted(places[14:]) == list(range(7))
    assert places[:7] != places[7:14]
    assert loading.Order(7, 3, 1).batch(4) == order.batch(4)


def test_a_gpu_is_taken_by_its_number(monkeypatch):
    """spconv launches on the current GPU, whatever its tensors lie on."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert pick_device("cuda:1") == torch.device("cuda", 1) and taken == [torch.device("cuda", 1)]
    with pytest.raises(ResourceError, match=r"no GPU number 2 \(torch sees 2"):
        pick_device("cuda:2")
    assert pick_device("auto") == torch.device("cuda") and len(taken) == 1


def test_workers_change_no_result():
    def load(draw: int) -> torch.Tensor:
        return torch.rand(3, generator=seeding.torch_generator(0, "x", draw))

    here = list(loading.prefetch(load, range(2, 8), 0, str))
    there = list(loading.prefetch(load, range(2, 8), 2, str))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_schedules_begin_peak_and_end_where_they_should():
    assert optim.cosine(0, 100) == 1
    assert optim.cosine(50, 100) == 0.5
    assert optim.cosine(100, 100) == 0
    shares = [optim.one_cycle(step, 100, 0.2) for step in range(100)]
    assert shares[0] == 0.04
    assert max(shares) == shares[20] == 1
    assert shares[:21] == sorted(shares[:21])
    assert shares[20:] == sorted(shares[20:], reverse=True)


def test_seeds_depend_on_every_part_and_on_nothing_else():
    assert seeding.seed_of(0, "a", 1) == 3805457466603685491
    assert len({seeding.seed_of(0, "a", 1), seeding.seed_of(1, "a", 0), seeding.seed_of(0, "a1")}) == 3


def test_the_newest_checkpoint_is_that_of_the_last_step_whatever_the_clock_said(tmp_path):
    for step in (9, 10):
        checkpoint.save(tmp_path, step, {"x": torch.full((1,), step)})
    for path in tmp_path.glob("*.pt"):
        os.utime(path, (1e9 - int(path.stem.split("-")[1]),) * 2)
    assert checkpoint.load_newest(tmp_path)[0] == 10


def test_another_seed_is_another_order():
    assert loading.Order(50, 50, 0).batch(0) != loading.Order(50, 50, 1).batch(0)


def test_optimisers_take_all_that_the_configuration_says():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5}]
    (made,) = optim.sgd(groups, momentum=0.8, dampening=0.2, weight_decay=0.03).param_groups
    assert (made["lr"], made["momentum"], made["dampening"], made["weight_decay"]) == (0.5, 0.8, 0.2, 0.03)
    (made,) = optim.adamw(groups, weight_decay=0.04).param_groups
    assert (made["lr"], made["weight_decay"]) == (0.5, 0.04)
