"""The smoke world, prepared once for all tests of the training stages."""

import pytest

from cache.store import Store
from stages import plans
from stages.plans import Source
from stages.recipes import smoke
from stages.runner import Runner
from stages.runtime import Runtime


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """`prepared.runner()` opens a store that holds both prepared data sets of the smoke recipe."""
    root = tmp_path_factory.mktemp("store")
    runner = Runner(Store(root), Runtime(device="cpu", workers=0, recipe="smoke"))
    for dataset in ("nuscenes", "semkitti"):
        for step in plans.prep(smoke(), Source(dataset)):
            runner.run(step)
    return root


@pytest.fixture
def runner(prepared, tmp_path):
    """A runner whose prepared data is found, and whose trainings are made anew in each test."""
    import shutil

    root = tmp_path / "store"
    shutil.copytree(prepared, root, copy_function=link)
    return Runner(Store(root), Runtime(device="cpu", workers=0, recipe="smoke"))


def link(source: str, target: str) -> None:
    """Artifacts are immutable: a hard link is as good as a copy."""
    import os

    os.link(source, target)
