"""Unfinished work is gone on with only if the data and the code are those that began it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.store import Store
from hvd.errors import InputError
from stages import runner as runner_module
from stages.graph import Data, Step
from stages.runner import Runner
from stages.runtime import Runtime
from tests.datasets.tiny import VERSION, write_nuscenes
from tests.stages import fake_stage
from tests.stages.fake_stage import FAKE, FakeConfig

TRAINING = replace(FAKE, trains=True)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The fake stage finishes a part, fails on its first run, and notes here what it found on each."""
    found: list[list[str]] = []

    def run(config: Any, inputs: Any, work: Any, runtime: Runtime) -> dict[str, Any]:
        found.append(sorted(path.name for path in work.folder.iterdir()))
        (work.folder / "part").write_text("made")
        if len(found) == 1:
            raise InputError("asked to fail")
        return {}

    monkeypatch.setattr(fake_stage, "run", run)
    return found


@pytest.fixture
def run(tmp_path: Path, seen: list[list[str]]) -> Any:
    """Run a step twice; something is done in between."""

    def twice(step: Step, between: Any = lambda: None) -> Any:
        with pytest.raises(InputError, match="asked to fail"):
            Runner(Store(tmp_path / "store")).run(step)
        between()
        return Runner(Store(tmp_path / "store")).run(step).artifact

    return twice


def code(monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    monkeypatch.setattr(runner_module, "provenance", lambda module: {"code": digest})


def test_what_nothing_changed_for_is_gone_on_with(run: Any, seen: list[list[str]]) -> None:
    made = run(Step(FAKE, FakeConfig(text="a")))
    assert seen == [[], ["part"]]
    assert "resumed_from_code" not in made.details


def test_a_file_that_was_mended_and_kept_its_size_clears_the_work(
    run: Any, seen: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_nuscenes(tmp_path / "nu")
    sweep = next(root.glob("samples/LIDAR_TOP/*"))
    step = Step(FAKE, FakeConfig(text="a"), (("data", Data("nuscenes", VERSION, "frames", root)),))
    run(step, lambda: sweep.write_bytes(bytes(sweep.stat().st_size)))
    assert seen == [[], []]
    assert "the data changed since an unfinished run; beginning anew" in capsys.readouterr().err


def test_parts_that_other_code_made_are_cleared(
    run: Any, seen: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code(monkeypatch, "old")
    made = run(Step(FAKE, FakeConfig(text="a")), lambda: code(monkeypatch, "new"))
    assert seen == [[], []] and made.details["code"] == "new"
    assert "the code changed since an unfinished run; beginning anew" in capsys.readouterr().err


def test_parts_that_nobody_knows_are_cleared(run: Any, seen: list[list[str]], tmp_path: Path) -> None:
    run(Step(FAKE, FakeConfig(text="a")), lambda: next(tmp_path.glob("store/.work/*/*/begun.json")).unlink())
    assert seen == [[], []]


def test_a_training_goes_on_after_the_code_changed_and_says_so(
    run: Any, seen: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code(monkeypatch, "old")
    made = run(Step(TRAINING, FakeConfig(text="a")), lambda: code(monkeypatch, "new"))
    assert seen == [[], ["part"]]
    assert (made.details["code"], made.details["resumed_from_code"]) == ("new", ["old"])
    assert "the code changed since its checkpoint was made" in capsys.readouterr().err


def test_code_that_a_training_went_through_is_kept_when_it_is_stopped_again(
    run: Any, seen: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, step = fake_stage.run, Step(TRAINING, FakeConfig(text="a"))

    def stopped(*arguments: Any) -> Any:
        plain(*arguments)
        raise InputError("stopped")

    def with_other_code() -> None:
        code(monkeypatch, "new")
        with monkeypatch.context() as patch:
            patch.setattr(fake_stage, "run", stopped)
            with pytest.raises(InputError, match="stopped"):
                Runner(Store(tmp_path / "store")).run(step)

    code(monkeypatch, "old")
    made = run(step, with_other_code)
    assert seen == [[], ["part"], ["part"]]
    assert (made.details["code"], made.details["resumed_from_code"]) == ("new", ["old"])
