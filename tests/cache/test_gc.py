"""Garbage collection: what stays."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cache import gc, layout, manifest
from cache.errors import Newer, NotFound
from cache.store import Store

LATER = datetime.now(UTC) + timedelta(days=30)
DAY_S = 86400.0
READ = """
import sys, pathlib, cache.store
with cache.store.Store(pathlib.Path(sys.argv[1])).resolve(sys.argv[2]).reading():
    print("reading", flush=True)
    sys.stdin.readline()
"""
WORK = """
import sys, pathlib, cache.store
with cache.store.Store(pathlib.Path(sys.argv[1])).claim("prep", sys.argv[2]) as work:
    (work.scratch / "checkpoint").write_text("5")
    print("working", flush=True)
    sys.stdin.readline()
"""


def collect_old(store: Store, **options: object) -> gc.Collected:
    return gc.collect(store, gc.plan(store, older_than_s=7 * DAY_S, now=LATER, **options))


def test_plan_changes_nothing_and_young_artifacts_stay(store: Store, publish) -> None:
    made = [publish(number) for number in range(3)]
    assert gc.plan(store) == gc.plan(store, older_than_s=DAY_S) == []
    items = gc.plan(store, older_than_s=7 * DAY_S, now=LATER)
    assert {item.path for item in items} == {item.path for item in made}
    assert {(item.kind, item.size_bytes) for item in items} == {("artifact", made[0].size_bytes)}
    assert store.artifacts() == made


def test_old_artifacts_go(store: Store, publish) -> None:
    publish()
    done = collect_old(store)
    assert (len(done.removed), done.kept) == (1, ())
    assert store.artifacts() == []
    assert list((store.root / ".trash").iterdir()) == []


def test_pinned_artifacts_stay_with_their_ancestors(store: Store, publish) -> None:
    grandparent = publish(0)
    parent = publish(1, parents=(grandparent,))
    child = publish(2, parents=(parent,))
    loose = publish(3, parents=(parent,))
    store.pin(child.key)
    assert [item.path for item in collect_old(store).removed] == [loose.path]
    assert store.artifacts() == [grandparent, parent, child]
    store.unpin(child.key)
    store.pin(parent.key)
    assert len(collect_old(store).removed) == 1
    assert store.artifacts() == [grandparent, parent]


def test_the_newest_of_each_stage_stay_with_their_ancestors(store: Store, publish) -> None:
    """At any age, and by the order of publication; with an age too, both must ask for it."""
    first, second, third = (publish(number) for number in range(3))
    old, new = publish(3, parents=(first,), stage="train"), publish(4, parents=(second,), stage="train")
    assert {item.path for item in gc.plan(store, keep=2)} == set()
    assert {item.path for item in gc.plan(store, keep=1)} == {first.path, old.path}
    assert gc.plan(store, keep=1, older_than_s=DAY_S) == []
    assert len(gc.plan(store, keep=1, older_than_s=DAY_S, now=LATER)) == 2
    store.pin(old.key)
    assert gc.plan(store, keep=1) == []
    store.unpin(old.key)
    assert len(gc.collect(store, gc.plan(store, keep=1)).removed) == 2
    assert store.artifacts() == [second, third, new]


def test_what_is_pinned_after_the_plan_stays(store: Store, publish) -> None:
    made = publish()
    items = gc.plan(store, older_than_s=0, now=LATER)
    store.pin(made.key)
    assert gc.collect(store, items).kept == ((items[0], "is pinned"),)


def test_ancestors_stay_in_whatever_order_they_were_published(store: Store, publish) -> None:
    """A parent that was deleted and made again, or unpacked later, is younger than its child."""
    grandparent = publish(0)
    parent = publish(1, parents=(grandparent,))
    child, loose = publish(2, parents=(parent,)), publish(3)
    for item in (parent, grandparent):
        gc.discard(store.root, item.path)
    publish(1, parents=(grandparent,))
    publish(0)
    assert [item.key for item in store.artifacts()] == [child.key, loose.key, parent.key, grandparent.key]
    store.pin(child.key)
    assert [item.path for item in collect_old(store).removed] == [loose.path]


def test_artifact_being_read_stays(store: Store, publish, python) -> None:
    read, loose = publish(0), publish(1)
    reader = python(READ, store.root, read.key)
    assert reader.stdout.readline() == "reading\n"
    done = collect_old(store)
    assert [item.path for item in done.removed] == [loose.path]
    assert [reason for _, reason in done.kept] == ["is in use"]
    assert read.verify(full=True) == []


def test_work_in_progress_stays_until_its_owner_is_dead(store: Store, python) -> None:
    key = "ab" * 32
    worker = python(WORK, store.root, key)
    assert worker.stdout.readline() == "working\n"
    assert [reason for _, reason in collect_old(store).kept] == ["is in use"]
    worker.kill()
    worker.wait()
    assert gc.plan(store) == []  # a checkpoint is worth keeping
    done = collect_old(store)
    assert [(item.kind, item.size_bytes) for item in done.removed] == [("work", 1)]
    assert not list((store.root / ".work" / "prep").iterdir())


def test_clock_set_back_deletes_nothing(store: Store, publish) -> None:
    publish()
    assert gc.plan(store, older_than_s=1, now=LATER - timedelta(days=4000)) == []


def test_left_overs_go_at_any_age(store: Store, publish) -> None:
    made, headless = publish(0), publish(1)
    (headless.path / manifest.NAME).unlink()
    (store.root / ".trash").mkdir()
    (store.root / ".trash" / f"{'ab' * 8}-1-2").write_text("abc")
    (store.root / ".trash" / "letter-2024-11").write_text("abc")  # the folder was no store
    finished = store.root / ".work" / "prep" / made.key / "scratch"
    finished.mkdir(parents=True)
    items = gc.plan(store)
    assert sorted((item.kind, item.size_bytes > 0) for item in items) == [
        ("remains", True),
        ("trash", True),
        ("work", False),
    ]
    assert gc.collect(store, items).kept == ()
    assert gc.plan(store) == []
    assert store.artifacts() == [made]
    assert not headless.path.exists()
    assert [path.name for path in (store.root / ".trash").iterdir()] == ["letter-2024-11"]


def test_damaged_artifacts_go_only_when_asked(store: Store, publish) -> None:
    made = publish()
    (made.path / manifest.NAME).write_text("{}")
    assert collect_old(store).removed == ()
    store_root_pins = store.root / ".pins"
    store_root_pins.mkdir()
    (store_root_pins / made.key).touch()
    assert gc.plan(store, damaged=True) == []
    store.unpin(made.key)
    assert [item.kind for item in collect_old(store, damaged=True).removed] == ["damaged"]
    assert store.damaged() == []
    assert not made.path.exists()


def test_an_artifact_of_a_newer_version_stays(store: Store, publish) -> None:
    made = publish()
    newer = replace(made.manifest, schema=manifest.SCHEMA + 1)
    (made.path / manifest.NAME).write_bytes(newer.to_bytes())
    assert [type(item.error) for item in store.damaged()] == [Newer]
    assert gc.plan(store, damaged=True) == []


def test_reader_that_comes_too_late_is_told(store: Store, publish) -> None:
    made = publish()
    collect_old(store)
    with pytest.raises(NotFound), made.reading():
        pass


def test_read_only_store_is_reported_not_raised(read_only_store: Store) -> None:
    done = collect_old(read_only_store)
    assert done.removed == ()
    assert "no permission" in done.kept[0][1]
    assert str(Path(read_only_store.root)) in done.kept[0][1]


def test_what_became_complete_after_the_plan_is_no_remains(store: Store, publish) -> None:
    key = publish().key
    shutil.rmtree(layout.path_of(store.root, "prep", key))
    layout.path_of(store.root, "prep", key).mkdir()
    (remains,) = gc.plan(store)
    made = publish()
    assert gc.collect(store, [remains]).kept == ((remains, "is complete by now"),)
    assert store.find("prep", key) == made
