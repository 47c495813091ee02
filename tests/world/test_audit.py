"""The audit's measures tell a cue that gives the classes away from one that does not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hvd.world import audit as audit_module
from hvd.world.audit import _Data, _probe, _tree, audit


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: more threads only wait for each other, for minutes on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _labels(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 16, count).astype(np.uint8)


def test_tree() -> None:
    rng = np.random.default_rng(0)
    train, val = _labels(rng, 4000), _labels(rng, 1000)
    telling = [label[:, None] + rng.normal(0, 0.05, (len(label), 1)) for label in (train, val)]
    silent = [rng.normal(size=(len(label), 1)) for label in (train, val)]
    assert _tree(telling[0], train, telling[1], val, seed=0) > 97
    assert _tree(silent[0], train, silent[1], val, seed=0) < 8


@pytest.mark.parametrize(("noise", "low", "high"), [(0.1, 99, 100), (100.0, 0, 12)])
def test_probe(noise: float, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "_PROBE_STEPS", 150)
    rng = np.random.default_rng(0)
    basis, data = rng.normal(size=(16, 24)), []
    for count in (4000, 1000):
        label = _labels(rng, count)
        feature = np.eye(16)[label] @ basis + noise * rng.normal(size=(count, 24))
        data.append(_Data(np.empty((0, 5)), np.empty(0), np.empty((0, 3)), feature.astype(np.float32), label))
    assert low <= _probe(data[0], data[1], seed=0) <= high


def test_audit_of_a_world(nuscenes_root: Path) -> None:
    rows = {row.name: row for row in audit(nuscenes_root, seed=0)}
    probe, rgb = rows["linear probe on the teacher"], rows["tree on one pixel's RGB"]
    assert len(rows) == 5
    assert all(0 < row.value < 100 for row in rows.values())
    assert probe.limit == pytest.approx(rgb.value + 15)
    assert probe.ok == (probe.value >= probe.limit)
    assert rgb.ok == (rgb.value < 15)
