"""What a manifest says of the code: a digest of all that may run, the commit, and the device that was used."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from cache.store import Store
from stages import provenance
from stages import runner as runner_module
from stages.graph import Step
from stages.runner import Runner
from tests.stages import fake_stage
from tests.stages.fake_stage import FAKE, FakeConfig

FILES = ("cache/store.py", "hvd/models/unet.py", "stages/parts.py", "hvd/cli/main.py", "tests/test_parts.py")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toolkit in small, which `provenance` takes for the one that runs."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "stages" / "provenance.py"))
    return tmp_path


def digest() -> str:
    return provenance.code_digest.__wrapped__("stages.world")


@pytest.mark.parametrize("name", FILES)
def test_the_digest_covers_all_that_a_stage_may_run(tree: Path, name: str) -> None:
    before = digest()
    assert digest() == before
    (tree / name).write_text("changed")
    assert (digest() != before) == (name not in ("hvd/cli/main.py", "tests/test_parts.py"))


def test_the_digest_covers_a_stage_from_elsewhere(tree: Path) -> None:
    assert provenance.code_digest.__wrapped__("tests.stages.fake_stage") != digest()


def git(folder: Path, *command: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True)


def test_the_commit_is_that_of_our_own_checkout_and_says_if_files_differ(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = provenance._commit.__wrapped__
    git(tree, "init")
    git(tree, "add", ".")
    git(tree, "commit", "-m", "x")
    clean = commit()
    assert clean is not None and len(clean) == 40
    (tree / FILES[0]).write_text("changed")
    assert commit() == f"{clean}-dirty"
    installed = tree / "site-packages" / "stages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(installed / "provenance.py"))
    assert commit() is None


def test_code_that_changes_during_a_run_is_not_taken_for_what_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"code": "before"}
    monkeypatch.setattr(runner_module, "provenance", lambda module: dict(now))

    def run(*_: object) -> dict[str, Any]:
        now["code"] = "after"
        return {}

    monkeypatch.setattr(fake_stage, "run", run)
    assert Runner(Store(tmp_path)).run(Step(FAKE, FakeConfig(text="a"))).artifact.details["code"] == "before"


def test_the_device_is_the_one_that_was_picked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_stage, "run", lambda *_: {})
    runner = Runner(Store(tmp_path))  # auto
    assert runner.run(Step(FAKE, FakeConfig(text="a"))).artifact.details["device"] == "cpu"
    monkeypatch.setattr(fake_stage, "pick_device", lambda name: torch.device("cuda", 1), raising=False)
    assert runner.run(Step(FAKE, FakeConfig(text="b"))).artifact.details["device"] == "cuda:1"
