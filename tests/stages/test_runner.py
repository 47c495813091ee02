"""The runner: what is computed, what is found, and why."""

import os
from pathlib import Path

import pytest
import torch

from cache.key import key_of
from cache.store import Store
from hvd import log
from hvd.errors import InputError, ResourceError
from stages import inputs
from stages.graph import Data, File, Step, Stored, most_awaited_first
from stages.inputs import WORLD_ORIGIN
from stages.runner import Runner, _run_in_child
from stages.runtime import Runtime
from tests.cli.small_store import publish
from tests.datasets.tiny import VERSION, write_nuscenes
from tests.stages.fake_stage import FAKE, FakeConfig


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    record = tmp_path / "runs.txt"
    record.touch()
    monkeypatch.setenv("FAKE_LOG", str(record))
    return lambda: record.read_text().split()


@pytest.fixture
def runner(tmp_path):
    return lambda: Runner(Store(tmp_path / "store"), Runtime(device="cpu"))


def fake(text: str, *inputs, **config) -> Step:
    return Step(FAKE, FakeConfig(text=text, **config), tuple((f"in{i}", node) for i, node in enumerate(inputs)))


def test_a_second_run_computes_nothing(runner, runs):
    chain = fake("b", fake("a"))
    first = runner().run(chain)
    again = runner().run(chain)
    assert (first.state, again.state) == ("run", "hit")
    assert runs() == ["a", "b"]
    assert again.artifact.digest == first.artifact.digest


def test_a_changed_parent_with_the_same_bytes_stops_there(runner, runs):
    runner().run(fake("b", fake("a", secret=1)))
    assert runner().run(fake("b", fake("a", secret=2))).state == "hit"
    assert runs() == ["a", "b", "a"]


def test_only_what_depends_on_a_change_runs_again(runner, runs):
    def graph(left: str) -> Step:
        return fake("top", fake(left), fake("right"))

    runner().run(graph("left"))
    runner().run(graph("other"))
    assert runs() == ["left", "right", "top", "other", "top"]


def test_a_failed_stage_leaves_no_artifact(runner, tmp_path):
    with pytest.raises(InputError, match="asked to fail"):
        runner().run(fake("a", fail=True))
    assert Store(tmp_path / "store").artifacts() == []


def test_status_says_what_would_run_and_why(runner):
    runner().run(fake("a"))
    states = runner().status((fake("b", fake("a")),))
    assert [(s.step.config.text, s.state) for s in states] == [("a", "hit"), ("b", "run")]
    assert "config.text" in states[1].reason
    waiting = runner().status((fake("c", fake("new")),))
    assert [s.state for s in waiting] == ["run", "run"]
    assert waiting[1].key is None


def test_processes_give_what_one_process_gives(tmp_path, runs):
    steps = tuple(fake(f"top{i}", fake("shared"), fake(f"own{i}")) for i in range(3))
    one = Runner(Store(tmp_path / "one"), Runtime(device="cpu"))
    two = Runner(Store(tmp_path / "two"), Runtime(device="cpu"))
    for step in steps:
        one.run(step)
    two.run_all(steps, jobs=2)
    assert {s: o.artifact.digest for s, o in one.done.items()} == {s: o.artifact.digest for s, o in two.done.items()}
    assert sorted(runs()) == sorted(["shared", "own0", "own1", "own2", "top0", "top1", "top2"] * 2)


def test_steps_are_told_of_in_the_order_of_the_targets_and_found_ones_at_once(tmp_path, runs):
    awaited = fake("awaited")
    steps = (fake("alone"), *(fake(f"top{i}", awaited) for i in range(2)))
    Runner(Store(tmp_path / "store"), Runtime(device="cpu")).run(steps[2])
    told = []
    Runner(Store(tmp_path / "store"), Runtime(device="cpu")).run_all(steps, jobs=1, tell=told.append)
    assert [step.config.text for step in told] == ["awaited", "top1", "alone", "top0"]


def test_an_error_in_a_process_arrives_as_itself(tmp_path, runs):
    runner = Runner(Store(tmp_path / "store"), Runtime(device="cpu"))
    with pytest.raises(InputError, match="asked to fail"):
        runner.run_all((fake("top", fake("a", fail=True)),), jobs=2)


def test_a_process_works_from_the_parents_it_is_given_and_from_unchanged_data(tmp_path, runs, capsys):
    source, store = tmp_path / "x.bin", Store(tmp_path / "store")
    source.write_bytes(b"before")
    parent, step = fake("parent"), fake("a", fake("parent"), File(source))
    runner = Runner(store, Runtime(device="cpu"))
    made = runner.run(parent).artifact.key
    key = key_of(runner.inputs.of_key(step))
    capsys.readouterr()
    job = (store.root, runner.runtime, True, {parent: made}, step, key)
    source.write_bytes(b"after!")
    with pytest.raises(InputError, match="the data changed before fake read it"):
        _run_in_child(*job)
    assert len(store.artifacts()) == 1
    source.write_bytes(b"before")
    assert [_run_in_child(*job)[0] for _ in range(2)] == ["run", "hit"]
    assert capsys.readouterr().err == "", "a quiet parent has quiet children"
    other = fake("b")
    key = key_of(runner.inputs.of_key(other))
    _run_in_child(store.root, runner.runtime, False, {}, other, key)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith(f"{key[:8]} ") for line in lines), "of several side by side"
    log.configure()


def test_data_of_two_origins_is_called_so(tmp_path, runner):
    """A real root is not lost behind the built-in world, whichever comes last."""
    store = Store(tmp_path / "store")
    places = [{"nuscenes": WORLD_ORIGIN}, {"nuscenes": "/data/nu"}, {"nuscenes": f"{WORLD_ORIGIN} + /data/nu"}]
    for index, data in enumerate(places):
        made = publish(store, "fake", {"text": str(index)}, data=data)
        places[index] = Stored(made.stage, made.key)
    for order in (places[:2], places[1::-1], places[::2], places):
        assert runner().inputs.origins(fake("a", *order)) == {"nuscenes": "/data/nu + built-in world"}


def test_a_file_enters_by_its_bytes_not_its_name(runner, runs, tmp_path):
    first, second = tmp_path / "x.bin", tmp_path / "y.bin"
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    runner().run(fake("a", File(first)))
    assert runner().run(fake("a", File(second))).state == "hit"
    second.write_bytes(b"other")
    assert runner().run(fake("a", File(second))).state == "run"


def test_an_input_that_changes_during_the_run_stops_publication(runner, runs, tmp_path, monkeypatch):
    source = tmp_path / "x.bin"
    source.write_bytes(b"before")
    import tests.stages.fake_stage as module

    plain = module.run
    monkeypatch.setattr(module, "run", lambda *args: (source.write_bytes(b"after"), plain(*args))[1])
    with pytest.raises(InputError, match="changed while"):
        runner().run(fake("a", File(source)))
    assert Store(tmp_path / "store").artifacts() == []


@pytest.mark.parametrize("name", ["samples/LIDAR_TOP", f"{VERSION}/ego_pose.json"])
def test_a_data_set_that_changes_during_the_run_is_named_by_its_file(runner, runs, tmp_path, monkeypatch, name):
    """Also where a sensor file keeps its size, which is all that the fingerprint knows of it."""
    import tests.stages.fake_stage as module

    root = write_nuscenes(tmp_path / "nu")
    path = root / name
    path = next(iter(sorted(path.iterdir()))) if path.is_dir() else path
    whole = path.read_bytes()
    step = fake("a", Data("nuscenes", VERSION, "frames", root))

    def run(config, inputs, work, runtime):
        assert not list(work.folder.iterdir()), "what was made of the changed files was kept"
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if path.suffix == ".bin" else whole + b" ")
        return work.folder.joinpath("part").write_bytes(path.read_bytes())

    monkeypatch.setattr(module, "run", run)
    for _ in range(2):
        with pytest.raises(InputError, match=f"changed while fake ran: .*{path.name}") as caught:
            runner().run(step)
        assert caught.value.exit_code == 3
        path.write_bytes(whole)
    assert Store(tmp_path / "store").artifacts() == []
    monkeypatch.setattr(module, "run", lambda *_: {})
    assert runner().run(step).state == "run"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nlong advice"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_stage_without_memory_says_what_to_do(runner, runs, monkeypatch, error):
    import tests.stages.fake_stage as module

    def run(*_):
        raise error

    monkeypatch.setattr(module, "run", run)
    with pytest.raises(ResourceError, match=r"fake ran out of memory.*fewer --workers or --device cpu$") as caught:
        runner().run(fake("a"))
    assert caught.value.exit_code == 6 and "\n" not in str(caught.value)


def test_another_runtime_error_stays_a_bug(runner, runs, monkeypatch):
    import tests.stages.fake_stage as module

    def run(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(module, "run", run)
    with pytest.raises(RuntimeError, match="shapes differ"):
        runner().run(fake("a"))


def test_a_stored_artifact_is_an_input(runner, runs):
    made = runner().run(fake("a"))
    by_key = runner().run(fake("b", Stored("fake", made.artifact.key)))
    assert runner().run(fake("b", fake("a"))).artifact.key == by_key.artifact.key
    with pytest.raises(InputError, match="no such artifact"):
        runner().run(fake("b", Stored("fake", "0" * 64)))


def test_a_manifest_tells_where_a_result_came_from(runner, runs):
    parent = fake("a")
    artifact = runner().run(fake("b", parent)).artifact
    assert artifact.parents[0]["stage"] == "fake"
    assert artifact.key_inputs["config"] == {"text": "b", "secret": 0, "fail": False}
    assert {"versions", "commit", "code", "command", "seconds", "metrics", "recipe"} <= set(artifact.details)


def test_paths_with_spaces_and_other_scripts(tmp_path, runs):
    runner = Runner(Store(tmp_path / Path("a b/поле 道")), Runtime(device="cpu"))
    assert runner.run(fake("a")).artifact.path.is_dir()


def test_what_most_steps_wait_for_comes_first():
    long = fake("long")
    steps = [fake("short"), long, fake("b", long), fake("c", long)]
    assert most_awaited_first(steps)[0] == long


def test_gc_during_a_run_spares_what_was_found_before_and_is_used_later(runner, runs, monkeypatch):
    """`old` is found at once and read only by the last step; while `slow` runs, gc deletes all it may."""
    import tests.stages.fake_stage as module
    from cache import gc

    old, loose = runner().run(fake("old")).artifact, runner().run(fake("loose")).artifact
    plain, store = module.run, runner().store

    def collecting(config, *rest):
        if config.text == "slow":
            gc.collect(store, gc.plan(store, older_than_s=0))
        return plain(config, *rest)

    monkeypatch.setattr(module, "run", collecting)
    by_key = fake("top", fake("old"), fake("slow"), Stored("fake", old.key))
    assert runner().run(by_key).state == "run"
    assert loose not in store.artifacts() and old in store.artifacts()
    assert len(gc.collect(store, gc.plan(store, older_than_s=0)).removed) == 3  # the run is over


def test_work_made_of_changed_data_goes_even_if_the_data_is_as_it_was_again(runner, runs, tmp_path, monkeypatch):
    """To the nanosecond: a copy that keeps times, put back."""
    import tests.stages.fake_stage as module

    root = write_nuscenes(tmp_path / "nu")
    path = next(iter(sorted((root / "samples/LIDAR_TOP").iterdir())))
    whole, state = path.read_bytes(), path.stat()

    def run(config, inputs, work, runtime):
        assert not list(work.folder.iterdir()), "what was made of the changed files was kept"
        if path.stat().st_mtime_ns == state.st_mtime_ns and not seen:
            seen.append(path.write_bytes(whole[::-1]))
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        return {"bytes": work.folder.joinpath("part").write_bytes(path.read_bytes())}

    seen = []
    monkeypatch.setattr(module, "run", run)
    step = fake("a", Data("nuscenes", VERSION, "frames", root))
    with pytest.raises(InputError, match="changed while"):
        runner().run(step)
    path.write_bytes(whole)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (runner().run(step).artifact.path / "part").read_bytes() == whole


def test_data_known_by_content_is_read_once_a_command(runner, runs, tmp_path, monkeypatch):
    import tests.stages.fake_stage as module

    plain, read = inputs.fingerprint, []
    monkeypatch.setattr(module, "run", lambda *_: {})
    monkeypatch.setattr(
        inputs, "fingerprint", lambda *place, contents: read.append(place) or plain(*place, contents=contents)
    )
    data = Data("nuscenes", VERSION, "frames", write_nuscenes(tmp_path / "nu"), full_hash=True)
    going = runner()
    for text in "ab":
        assert going.run(fake(text, data)).state == "run"
    assert len(read) == 1


def test_a_change_while_the_digest_is_taken_is_a_change(runner, runs, tmp_path, monkeypatch):
    import tests.stages.fake_stage as module

    monkeypatch.setattr(module, "run", lambda *_: {})
    root = write_nuscenes(tmp_path / "nu")
    path = next(iter(sorted((root / "samples/LIDAR_TOP").iterdir())))
    plain, first = inputs.fingerprint, []

    def fingerprint(*place, contents):
        digest = plain(*place, contents=contents)
        if not first:
            first.append(path.write_bytes(path.read_bytes()[::-1]))
            os.utime(path, ns=(0, 0))
        return digest

    monkeypatch.setattr(inputs, "fingerprint", fingerprint)
    with pytest.raises(InputError, match="changed while"):
        runner().run(fake("a", Data("nuscenes", VERSION, "frames", root)))
