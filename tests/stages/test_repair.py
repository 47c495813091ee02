"""A damaged artifact is noticed by whoever reads it, and made anew from what its manifest says, and only it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cache.artifact import Artifact
from cache.store import Store
from hvd.datasets.prepared import Arrays, Frames, Labels, part_path, write_arrays, write_frames, write_labels
from hvd.errors import CorruptError, InputError
from hvd.models.teacher_config import TeacherConfig
from stages import inputs as inputs_module
from stages import repair, specs
from stages import runner as runner_module
from stages.graph import Data, File, Step, Stored, in_order
from stages.plans import Source, evaluate, export, finetune, prep, pretrain
from stages.recipes import smoke
from stages.repair import CONFIGS, children, step_of
from stages.reproduce import reproduce
from stages.runner import Runner
from stages.runtime import Runtime
from tests.cli.small_store import code, publish, run, run_json
from tests.datasets.test_prepared import FRAMES
from tests.datasets.tiny import VERSION, write_nuscenes
from tests.stages import fake_stage
from tests.stages.fake_stage import FAKE, FakeConfig

Runs = Callable[[], list[str]]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The fake stage counts as one of ours; returns what it was run with."""
    log = tmp_path / "runs.txt"
    log.touch()
    monkeypatch.setenv("FAKE_LOG", str(log))
    monkeypatch.setitem(specs.STAGES, "fake", FAKE)
    monkeypatch.setitem(repair.CONFIGS, "fake", FakeConfig)
    return lambda: log.read_text().split()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fake(text: str, *inputs: Any) -> Step:
    return Step(FAKE, FakeConfig(text=text), tuple((f"in{i}", node) for i, node in enumerate(inputs)))


def made(store: Store, *steps: Step) -> list[Artifact]:
    runner = Runner(store, Runtime(device="cpu", recipe="smoke"))
    return [runner.run(step).artifact for step in steps]


def flip(path: Path) -> bytes:
    """Flip one bit in the middle; returns the bytes from before."""
    before = path.read_bytes()
    place = len(before) // 2
    path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    return before


def test_only_the_damaged_artifact_is_made_anew(store: Store, runs: Runs) -> None:
    parent = fake("a")
    before = made(store, parent, fake("b", parent), fake("c"))
    path = before[1].path / "out.json"
    flip(path)
    assert code(run(store, "verify")) == 4
    done = run_json(store, "verify", "--repair")
    assert [(item["key"], item["same_bytes"]) for item in done["repaired"]] == [(before[1].key, True)]
    assert done["problems"] == [] and str(path) in done["repaired"][0]["problems"][0]
    assert runs() == ["a", "b", "c", "b"]
    after = store.artifacts()
    assert [(item.key, item.digest, item.sequence) for item in after] == [
        (item.key, item.digest, item.sequence) for item in before
    ]
    assert after[0] == before[0] and after[2] == before[2]
    assert after[1].parents == before[1].parents and after[1].details["recipe"] == "smoke"
    assert code(run(store, "verify")) == 0
    assert code(run(store, "verify", "--repair")) == 0 and len(runs()) == 4


def test_other_bytes_than_before_are_said_with_the_children(
    store: Store, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = made(store, fake("a"), fake("b", fake("a")))
    flip(parent.path / "out.json")
    plain = fake_stage.run

    def other(config: FakeConfig, inputs: Any, work: Any, runtime: Runtime) -> dict[str, Any]:
        metrics = plain(config, inputs, work, runtime)
        (work.folder / "more").write_text("x")
        return metrics

    monkeypatch.setattr(fake_stage, "run", other)
    result = run(store, "verify", "--repair")
    assert code(result) == 0 and "with other bytes than before" in result.stderr
    assert f"not found by later runs: fake {child.key[:8]}" in result.stderr
    assert children(store, store.resolve(parent.key)) == [child]


def test_what_is_gone_or_changed_is_said_and_the_damaged_stays(store: Store, runs: Runs, tmp_path: Path) -> None:
    source = tmp_path / "x.bin"
    source.write_bytes(b"same")
    (item,) = made(store, fake("a", File(source)))
    flip(item.path / "out.json")
    source.write_bytes(b"other")
    changed = run(store, "verify", "--repair")
    assert code(changed) == 3 and "changed since: inputs.in0" in str(changed.exception)
    source.unlink()
    gone = run(store, "verify", "--repair")
    assert code(gone) == 3 and f"its in0 is gone: {source}" in str(gone.exception)
    assert store.artifacts() == [item] and runs() == ["a"]


def test_a_repair_that_fails_leaves_the_damaged_artifact(
    store: Store, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = made(store, fake("a"))
    flip(item.path / "out.json")

    def failing(*_: object) -> dict[str, Any]:
        raise InputError("asked to fail")

    with monkeypatch.context() as patch:
        patch.setattr(fake_stage, "run", failing)
        assert code(run(store, "verify", "--repair")) == 3
    assert store.artifacts() == [item]
    with item.reading():
        assert code(run(store, "verify", "--repair")) == 5  # somebody reads it
    assert code(run(store, "verify", "--repair")) == 0
    assert store.artifacts()[0].digest == item.digest


def test_what_is_beyond_repair_does_not_keep_the_others_from_it(store: Store, runs: Runs, tmp_path: Path) -> None:
    source = tmp_path / "x.bin"
    source.write_bytes(b"same")
    lost, child, other = made(store, fake("a", File(source)), fake("b", fake("a", File(source))), fake("c"))
    for item in (lost, child, other):
        flip(item.path / "out.json")
    source.unlink()
    result = run(store, "verify", "--repair", "--json")
    assert code(result) == 3 and "cannot repair fake" in str(result.exception)
    done = json.loads(result.stdout)
    assert [item["key"] for item in done["repaired"]] == [other.key]
    assert [str(lost.path) in done["problems"][0], str(child.path) in done["problems"][1]] == [True, True]
    assert result.stderr.count("warning: cannot repair") == 1 and "warning: damaged fake artifact" in result.stderr
    assert store.resolve(other.key).verify(full=True) == []


def test_a_stored_world_that_lacks_a_table_is_damaged(store: Store, runs: Runs) -> None:
    world = publish(store, "world", write=lambda folder: write_nuscenes(folder) and None)
    step = fake("a", Data("nuscenes", VERSION, "frames", world=Stored("world", world.key)))
    (world.path / VERSION / "scene.json").unlink()
    with pytest.raises(CorruptError, match=rf"scene\.json: missing; run: hvd verify {world.key[:8]} --repair"):
        Runner(store).run(step)


def test_a_lost_manifest_is_beyond_repair(store: Store, runs: Runs) -> None:
    (item,) = made(store, fake("a"))
    flip(item.path / "manifest.json")
    result = run(store, "verify", "--repair")
    assert code(result) == 4 and "gc --damaged" in str(result.exception)


def test_every_stage_can_be_rebuilt_from_its_manifest(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is computed: each stage writes one file. The steps must come back with their configs and keys."""
    weights = tmp_path / "teacher.pth"
    weights.write_bytes(b"PK weights")

    def write(config: Any, inputs: Any, work: Any, runtime: Runtime) -> dict[str, Any]:
        (work.folder / "out.json").write_text(repr(config))
        return {}

    module = SimpleNamespace(run=write, __name__="stages.world")
    monkeypatch.setattr(runner_module, "importlib", SimpleNamespace(import_module=lambda name: module))
    monkeypatch.setattr(inputs_module, "fingerprint", lambda root, *which, contents: str(which).encode().hex()[:64])
    monkeypatch.setattr(inputs_module, "snapshot", lambda *place: {})
    recipe, nuscenes, semkitti = smoke(), Source("nuscenes"), Source("semkitti")
    teacher = TeacherConfig(name="resnet50", weights=str(weights))
    own = recipe.pretrain.with_(teacher=teacher)
    outside = Source("semkitti", tmp_path)
    tuned = finetune(recipe, semkitti, recipe.finetune.semkitti, pretrain(recipe, nuscenes, own))
    targets = (
        *(
            reproduce(recipe, nuscenes, semkitti),
            export(recipe.export, pretrain(recipe, nuscenes)),
            *prep(recipe, outside),
        ),
        *(pretrain(recipe, nuscenes, own.with_(cached_features=False)), evaluate(recipe, semkitti, recipe.eval, tuned)),
    )
    kitti = Source("kitti")
    detector = finetune(recipe, kitti, recipe.finetune.kitti, None)
    steps = in_order((*targets, evaluate(recipe, kitti, recipe.eval_detection, detector)))
    assert {step.stage.name for step in steps} == CONFIGS.keys() - {"export-features"}
    for step, item in zip(steps, made(store, *steps), strict=True):
        again = step_of(store, item)
        assert Runner(store).inputs.of_key(again) == item.key_inputs
        if step.stage.name != "table":
            assert again.config == step.config or step.config.resolved() == again.config.resolved()
    uncached = step_of(store, store.newest("pretrain", lambda item: not item.key_inputs["config"]["cached_features"]))
    assert uncached.config.teacher.weights == str(weights)
    assert CONFIGS.keys() == specs.STAGES.keys()


def write_everything(folder: Path) -> None:
    """Each kind of prepared data, and files without a checksum of their own."""
    write_frames(part_path(folder, 0), FRAMES[:2], {"cameras": []})
    write_labels(part_path(folder / "labels", 0), [np.arange(5, dtype=np.uint16)])
    write_arrays(part_path(folder / "images", 0), "image", np.full((2, 3, 4), 7, np.uint8), {})
    for name in ("student.safetensors", "splits.json", "protocol.json"):
        (folder / name).write_bytes(name.encode() * 20)


def read_everything(config: Any, inputs: Any, work: Any, runtime: Runtime) -> dict[str, Any]:
    """A stage that looks at every chunk."""
    folder = inputs["in0"]
    frames, labels, images = Frames(folder), Labels(folder / "labels"), Arrays(folder / "images", "image")
    return {"points": sum(len(frames.frame(i).point) for i in range(2)), "rest": len(labels[0]) + len(images[0])}


@pytest.mark.parametrize("how", ["flipped", "deleted"])
def test_damage_to_any_file_is_found_by_verify_and_by_the_read_itself(
    store: Store, runs: Runs, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(fake_stage, "run", read_everything)
    item = publish(store, "frames", write=write_everything)
    step = fake("reader", Stored("frames", item.key))
    files = sorted(path for path in item.path.rglob("*") if path.is_file() and path.name != "manifest.json")
    assert len(files) > 40
    for path in files:
        before = flip(path)
        if how == "deleted":
            path.unlink()
        problems = item.verify(full=True)
        assert len(problems) == 1 and str(path) in problems[0]
        with pytest.raises(CorruptError) as caught:
            Runner(store).run(step)
        assert str(path) in str(caught.value)
        path.write_bytes(before)
    assert [other.stage for other in store.artifacts()] == ["frames"]
    assert Runner(store).run(step).artifact.details["metrics"] == {"points": 47, "rest": 8}


def test_a_flipped_byte_in_weights_is_found_before_they_are_loaded(store: Store) -> None:
    item = publish(store, "pretrain", write=lambda folder: (folder / "student.safetensors").write_bytes(b"w" * 1000))
    flip(item.path / "student.safetensors")
    result = run(store, "export", "--from", item.key[:8], "--recipe", "smoke")
    assert code(result) == 4
    assert f"{item.path / 'student.safetensors'}: altered; run: hvd verify {item.key[:8]} --repair" in str(
        result.exception
    )
