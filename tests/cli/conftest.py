"""A store of a few small artifacts."""

from pathlib import Path

import pytest

from cache.artifact import Artifact
from cache.store import Store
from tests.cli.small_store import publish


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "störe")


@pytest.fixture
def chain(store: Store) -> list[Artifact]:
    """frames <- labels, frames <- pretrain <- finetune, which reads frames and labels too."""
    frames = publish(
        store,
        "frames",
        {"dataset": "nuscenes"},
        {"data": "d" * 64},
        sources={"data": "/data/nu"},
        data={"nuscenes": "/data/nu"},
    )
    labels = publish(store, "labels", {"dataset": "nuscenes"}, {"frames": frames})
    pretrain = publish(store, "pretrain", {"views": ["ipv"], "bev": {"weight": 0.25}}, {"frames": frames})
    model = publish(store, "finetune", {"labels": "1%"}, {"frames": frames, "labels": labels, "student": pretrain})
    return [frames, labels, pretrain, model]
