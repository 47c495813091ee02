"""The store: publication, search, claims, damage."""

import itertools
import os
import shutil
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cache import content, layout, manifest
from cache.artifact import Artifact
from cache.difference import difference
from cache.errors import Ambiguous, Busy, Corrupt, Newer, NoSpace, NotFound, NotPublishable, ReadOnly
from cache.key import key_of
from cache.lock import Owner
from cache.store import Store

INPUTS = {"stage": "prep", "number": 0, "config": {"step": 1.0}}
KEY = key_of(INPUTS)
MAKE = """
import sys, time, pathlib, cache.store, cache.key
store = cache.store.Store(pathlib.Path(sys.argv[1]))
inputs = {"stage": "prep", "n": int(sys.argv[2])}
sys.stdin.readline()
with store.claim("prep", cache.key.key_of(inputs)) as work:
    made = work.artifact is None
    if made:
        (work.folder / "x").write_text("x" * 1000)
        time.sleep(0.05)
        work.publish(inputs, [], {})
print(made, work.artifact.sequence)
"""


CHURN = """
import sys, time, pathlib, cache.gc, cache.store, cache.key
from cache.errors import NotFound
store, role = cache.store.Store(pathlib.Path(sys.argv[1])), int(sys.argv[2])
sys.stdin.readline()
made = read = removed = 0
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end or not made + read + removed:
    if role < 3:
        inputs = {"stage": "prep", "n": made % 3}
        with store.claim("prep", cache.key.key_of(inputs)) as work:
            if work.artifact is None:
                (work.folder / "x").write_text(str(inputs["n"]) * 1000)
                work.publish(inputs, [], {})
        made += 1
    elif role < 6:
        for item in store.artifacts():
            if "n" not in item.key_inputs:
                continue  # of the test itself
            try:
                with item.reading():
                    assert item.verify(full=True) == [], item.verify(full=True)
                    assert (item.path / "x").read_text() == str(item.key_inputs["n"]) * 1000
                    read += 1
            except NotFound:
                pass
    else:
        removed += len(cache.gc.collect(store, cache.gc.plan(store, older_than_s=0)).removed)
print(made, read, removed)
"""


def alter(path: Path, place: int = 0) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_publish_and_find(store: Store, publish) -> None:
    assert store.find("prep", KEY) is None
    made = publish()
    found = store.find("prep", KEY)
    assert found == made
    assert (found.stage, found.key, found.sequence, found.key_inputs) == ("prep", KEY, 1, INPUTS)
    assert found.details["metrics"] == {"iou": 0.5}
    assert found.path == store.root / "prep" / KEY[:2] / KEY
    assert found.size_bytes == 5 + 9 * 256 + 2
    assert (found.path / "part" / "ü ß.json").read_bytes() == b"{}"
    assert found.verify(full=True) == []


def test_nothing_of_the_work_is_left(store: Store, publish) -> None:
    publish()
    assert [path for path in (store.root / ".work").rglob("*") if not path.is_dir()] == []
    assert not store.root.joinpath(".work", "prep", KEY).exists()


def test_looking_creates_nothing(store: Store) -> None:
    assert store.artifacts() == store.damaged() == [] == sorted(store.pins())
    assert store.owner("prep", KEY) is None
    assert store.newest("prep") is None
    assert not store.root.exists()


def test_digest_is_of_the_content_alone(publish) -> None:
    assert publish(1).digest == publish(2).digest
    assert publish(1).key != publish(2).key


def test_a_second_claim_finds_the_artifact(store: Store, publish) -> None:
    made = publish()
    with store.claim("prep", KEY) as work:
        assert work.artifact == made
        with pytest.raises(NotPublishable):
            work.publish(INPUTS, [], {})


def test_unpublished_work_is_kept_for_the_next_claim(store: Store) -> None:
    with store.claim("prep", KEY) as work:
        (work.folder / "part-0").write_text("done")
        (work.scratch / "checkpoint").write_text("5")
    with store.claim("prep", KEY) as work:
        assert (work.folder / "part-0").read_text() == "done"
        assert (work.scratch / "checkpoint").read_text() == "5"
        work.publish(INPUTS, [], {})
    found = store.find("prep", KEY)
    assert found is not None
    assert sorted(os.listdir(found.path)) == ["files.json", "manifest.json", "part-0"]


def test_publication_checks_its_arguments(store: Store) -> None:
    with store.claim("prep", KEY) as work:
        with pytest.raises(NotPublishable, match="inputs"):
            work.publish({**INPUTS, "number": 1}, [], {})
        with pytest.raises(NotPublishable, match="parent"):
            work.publish(INPUTS, [{"name": "x"}], {})
        with pytest.raises(ValueError):
            work.publish(INPUTS, [], {"loss": float("nan")})
        assert work.publish(INPUTS, [], {}).verify(full=True) == []


def test_what_is_no_plain_file_is_not_published(store: Store) -> None:
    with store.claim("prep", KEY) as work:
        for make in (lambda p: p.symlink_to("/etc/passwd"), os.mkfifo):
            make(work.folder / "odd")
            with pytest.raises(NotPublishable, match="odd"):
                work.publish(INPUTS, [], {})
            (work.folder / "odd").unlink()
        with open(os.fsencode(work.folder) + b"/\xff", "wb"):
            pass
        with pytest.raises(NotPublishable, match="UTF-8"):
            work.publish(INPUTS, [], {})
        os.unlink(os.fsencode(work.folder) + b"/\xff")
        (work.folder / "files.json").write_text("mine")
        with pytest.raises(NotPublishable, match="own"):
            work.publish(INPUTS, [], {})
    assert store.find("prep", KEY) is None


def test_long_and_unusual_file_names(store: Store) -> None:
    names = ["n" * 255, "ü" * 127, "a b\n\t'\"", "deep/" * 20 + "x"]
    with store.claim("prep", KEY) as work:
        for name in names:
            (work.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (work.folder / name).write_text(name)
        made = work.publish(INPUTS, [], {})
    assert made.verify(full=True) == []
    assert sorted(content.read_entries(made.path / content.NAME, made.digest)) == sorted(names)


@pytest.mark.parametrize(
    ("stage", "key"), [("../x", KEY), ("", KEY), (".work", KEY), ("prep", "../" + KEY[3:]), ("prep", KEY[:8])]
)
def test_malformed_stage_or_key(store: Store, stage: str, key: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        store.find(stage, key)


def test_resolve_by_prefix(store: Store, publish) -> None:
    made = [publish(number) for number in range(3)]
    assert store.resolve(made[1].key[:6]) == made[1]
    for prefix in ("abc", "../..", "zzzz", made[0].key + "0"):
        with pytest.raises(NotFound):
            store.resolve(prefix)


def test_ambiguous_prefix_names_the_candidates(store: Store, publish) -> None:
    numbers: dict[str, int] = {}  # by the key's first four digits, until two share them
    for number in itertools.count():
        prefix = key_of({**INPUTS, "number": number})[:4]
        if prefix in numbers:
            break
        numbers[prefix] = number
    made = [publish(number) for number in (numbers[prefix], number)]
    with pytest.raises(Ambiguous) as caught:
        store.resolve(prefix)
    assert all(item.key[:8] in str(caught.value) for item in made)
    assert store.resolve(made[0].key) == made[0]


def test_order_is_that_of_publication(store: Store, publish) -> None:
    """Not of modification times, which a clock set back or a copy changes."""
    made = [publish(number, stage=stage) for number, stage in enumerate(("prep", "train", "prep", "prep"))]
    for age, item in enumerate(made):
        for path in (item.path, item.path / manifest.NAME):
            os.utime(path, (10**9 - age, 10**9 - age))
    assert store.artifacts() == made
    assert [item.sequence for item in store.artifacts("prep")] == [1, 3, 4]
    assert store.newest("prep") == made[3]
    assert store.newest("prep", lambda item: item.key_inputs["number"] < 3) == made[2]
    assert store.newest("prep", lambda _: False) is None


def test_nearest_and_difference(store: Store, publish) -> None:
    made = [publish(number) for number in range(3)]
    wanted = {"stage": "prep", "number": 1, "config": {"step": 2.0}}
    assert store.nearest("prep", wanted) == made[1]
    assert difference(made[1].key_inputs, wanted) == [("config.step", 1.0, 2.0)]
    assert store.nearest("prep", {"stage": "prep"}) == made[2]  # all differ alike: the newest
    assert store.nearest("other", wanted) is None


def test_difference_by_hand() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": {}, "same": {"x": None}, "gone": None}
    new = {"a": {"b": 1.0, "c": [1, 3]}, "d": {"e": 5}, "same": {"x": None}}
    assert difference(old, new) == [
        ("a.b", 1, 1.0),
        ("a.c", [1, 2], [1, 3]),
        ("d", {}, None),
        ("d.e", None, 5),
        ("gone", None, None),
    ]


def test_flipped_byte_in_any_file_is_found(publish) -> None:
    made = publish()
    for path in filter(Path.is_file, sorted(made.path.rglob("*"))):
        before = path.read_bytes()
        if before:
            alter(path, len(before) // 2)
            problems = made.verify(full=True)
            assert len(problems) == 1
            assert str(path) in problems[0]
            path.write_bytes(before)
    assert made.verify(full=True) == []


def test_missing_extra_and_resized_files_are_found_without_reading(publish) -> None:
    made = publish()
    (made.path / "a.bin").unlink()
    (made.path / "part" / "new").write_text("x")
    (made.path / "empty").write_text("no more")
    assert [problem.rsplit("/", 1)[1] for problem in made.verify()] == [
        "new: not in files.json",
        "a.bin: missing",
        "empty: 7 bytes instead of 0",
    ]


def test_file_replaced_by_a_link_is_found(publish) -> None:
    made = publish()
    shutil.move(made.path / "a.bin", made.path.parent / "a.bin")
    (made.path / "a.bin").symlink_to("../a.bin")
    assert len(made.verify(full=True)) == 1


def test_claims_in_the_list_of_files_are_checked_against_the_disk(publish) -> None:
    made = publish()
    claim = content.to_bytes({"a.bin": content.FileEntry(10**13, "0" * 64)})
    (made.path / content.NAME).write_bytes(claim)
    assert made.verify() == [f"altered: {made.path / content.NAME}"]
    entries = content.parse(claim, Path("files.json"))
    assert any("instead of 10000000000000" in problem for problem in content.compare(made.path, entries, full=True))


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/./b", "", ".", "a/..", "manifest.json", "a\0b", "a/"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(Corrupt):
        content.parse(content.to_bytes({name: content.FileEntry(1, "0" * 64)}), Path("files.json"))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": {"size": -1, "sha256": "0"}}}', b"[" * 10**5]
)
def test_malformed_lists_of_files(data: bytes) -> None:
    with pytest.raises(Corrupt):
        content.parse(data, Path("files.json"))


def test_damaged_manifest_is_reported_not_hidden(store: Store, publish) -> None:
    good, bad = publish(0), publish(1)
    alter(bad.path / manifest.NAME, 100)
    with pytest.raises(Corrupt, match="checksum"):
        store.find("prep", bad.key)
    with pytest.raises(Corrupt):
        store.resolve(bad.key[:10])
    assert store.artifacts() == [good]
    assert [(item.path, type(item.error)) for item in store.damaged()] == [(bad.path, Corrupt)]
    assert publish(2).sequence == 2  # the damaged one's number is not known any more


def test_newer_manifest(store: Store, publish, monkeypatch) -> None:
    made = publish()
    monkeypatch.setattr(manifest, "SCHEMA", 0)
    with pytest.raises(Newer, match="newer version"):
        store.find("prep", made.key)


def test_copied_folder_is_not_another_artifact(store: Store, publish) -> None:
    made = publish()
    shutil.copytree(made.path, made.path.with_name(made.key[:2] + "0" * 62))
    with pytest.raises(Corrupt, match="belongs"):
        store.find("prep", made.key[:2] + "0" * 62)


def test_without_its_manifest_an_artifact_does_not_exist(store: Store, publish) -> None:
    made = publish()
    (made.path / manifest.NAME).unlink()
    assert store.find("prep", made.key) is None
    again = publish()
    assert (again.digest, again.verify(full=True)) == (made.digest, [])
    assert os.listdir(store.root / ".trash") == []


def test_needed_space(store: Store) -> None:
    with pytest.raises(NoSpace, match=r"needs ~.*free") as caught, store.claim("prep", KEY, needs_bytes=10**18):
        pass
    assert caught.value.needs == 10**18
    assert caught.value.free > 0


def test_disk_full_inside_the_block(store: Store) -> None:
    with pytest.raises(NoSpace, match="needs ~10 B"), store.claim("prep", KEY, needs_bytes=10):
        Path("/dev/full").write_bytes(b"x")


def test_other_errors_of_the_block_pass_unchanged(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.claim("prep", KEY):
        Path("/nonexistent/input").read_bytes()


def test_read_only_store_is_readable(read_only_store: Store) -> None:
    found = read_only_store.find("prep", KEY)
    assert found is not None
    assert found.verify(full=True) == []
    with found.reading(), read_only_store.claim("prep", KEY) as work:
        assert work.artifact == found


def test_read_only_store_refuses_work_naming_the_path(read_only_store: Store) -> None:
    other = key_of({"other": 1})
    with pytest.raises(ReadOnly, match=str(read_only_store.root)), read_only_store.claim("prep", other):
        pass
    with pytest.raises(ReadOnly):
        read_only_store.pin(KEY)


def test_pins(store: Store, publish) -> None:
    made = publish()
    store.pin(made.key[:8])
    assert store.pins() == {made.key}
    with pytest.raises(NotFound):
        store.pin("0000")
    with pytest.raises(NotFound):
        store.unpin("0000")
    store.unpin(made.key[:8])
    assert store.pins() == frozenset()


def test_reading_what_is_gone(publish) -> None:
    made = publish()
    shutil.rmtree(made.path)
    with pytest.raises(NotFound), made.reading():
        pass
    assert len(made.verify()) == 1


def test_missing_file_inside_a_reading_block_keeps_its_name(publish) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), publish().reading():
        Path("elsewhere").read_bytes()


def test_no_wait_names_the_owner(store: Store) -> None:
    with store.claim("prep", KEY):
        with pytest.raises(Busy, match=f"process {os.getpid()} on "), store.claim("prep", KEY, wait=False):
            pass
        owner = store.owner("prep", KEY)
    assert owner is not None
    assert owner.pid == str(os.getpid())
    assert store.owner("prep", KEY) is None


def test_eight_processes_two_keys(store: Store, python) -> None:
    """One process makes each key, the others wait and find it; whoever reads meanwhile sees only what is complete."""
    processes = [python(MAKE, store.root, number % 2) for number in range(8)]
    for process in processes:  # all are ready to run
        process.stdin.write("\n")
        process.stdin.flush()
    while any(process.poll() is None for process in processes):
        assert all(item.verify(full=True) == [] for item in store.artifacts())
    results = [process.communicate()[0].split() for process in processes]
    assert sorted(made for made, _ in results) == ["False"] * 6 + ["True"] * 2
    assert sorted(item.sequence for item in store.artifacts()) == [1, 2]
    for parity in (0, 1):
        assert len({number for _, number in results[parity::2]}) == 1
    assert all(item.verify(full=True) == [] for item in store.artifacts())


def test_eight_processes_make_read_and_delete_the_same_keys(store: Store, publish, python) -> None:
    """Three make, three read, two delete: a reader sees whole artifacts, a pinned and a read one stay."""
    pinned, read = publish(0), publish(1)
    store.pin(pinned.key)
    processes = [python(CHURN, store.root, role, 1.0) for role in range(8)]
    with read.reading():
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        counts = [tuple(map(int, process.communicate()[0].split())) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    made, seen, removed = (sum(column) for column in zip(*counts, strict=True))
    assert made and seen and removed
    assert store.damaged() == []
    assert all(item.verify(full=True) == [] for item in store.artifacts())
    assert {pinned.key, read.key} <= {item.key for item in store.artifacts()}


def test_after_a_killed_owner_the_next_claim_goes_on_at_once(store: Store, python) -> None:
    """No unlock command, no waiting, and what it left is there."""
    code = MAKE.replace("time.sleep(0.05)", "print(flush=True); time.sleep(60)")
    process = python(code, store.root, 7)
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    process.kill()
    process.wait()
    inputs = {"stage": "prep", "n": 7}
    with store.claim("prep", key_of(inputs), wait=False) as work:
        assert (work.folder / "x").read_text() == "x" * 1000
        work.publish(inputs, [], {})
    assert store.owner("prep", key_of(inputs)) is None


def test_a_clock_that_steps_back_changes_no_order(store: Store, publish, monkeypatch) -> None:
    made = [publish(0)]

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=400)

    monkeypatch.setattr("cache.work.datetime", Earlier)
    made.append(publish(1))
    assert made[1].manifest.created < made[0].manifest.created
    assert store.artifacts() == made and store.newest("prep") == made[1]


def test_sequence_number_is_given_once(store: Store, publish, python) -> None:
    """The other process has its number, but is slow to publish."""
    process = python(MAKE, store.root, 1, HVD_FAILPOINT="store.artifact.rename:1:sleep=0.5")
    process.stdin.write("\n")
    process.stdin.flush()
    while not list(store.root.glob(".work/prep/*/content/manifest.json")):
        assert process.poll() is None
    made = publish()
    assert process.communicate()[0].split() == ["True", "1"]
    assert made.sequence == 2


def test_waiting_claim_finds_what_the_owner_made(store: Store, python) -> None:
    inputs = {"stage": "prep", "n": 5}
    process = python(MAKE, store.root, 5)
    heard: list[Owner] = []
    with store.claim("prep", key_of(inputs)) as work:
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.3)
        made = work.publish(inputs, [], {})
    assert process.communicate()[0].split() == ["False", str(made.sequence)]
    assert heard == []


def test_looking_up_keys_reads_their_manifests_and_no_other(store: Store, publish, monkeypatch) -> None:
    made, read, plain = [publish(number) for number in range(50)], [], manifest.read_manifest
    monkeypatch.setattr(manifest, "read_manifest", lambda path: read.append(path) or plain(path))
    assert [store.find("prep", item.key) for item in made[:3]] == made[:3]
    assert read == [item.path / manifest.NAME for item in made[:3]]


def test_import_is_light(python) -> None:
    """Planning and `--help` load the store; nothing of hvd, torch or numpy comes with it."""
    code = (
        "import sys; old = set(sys.modules); import cache.store, cache.gc, cache.pack; print(*set(sys.modules) - old)"
    )
    loaded = {name.split(".")[0] for name in python(code).communicate()[0].split()}
    assert loaded <= {*sys.stdlib_module_names, "cache"}
    assert "tarfile" not in loaded
    assert "asyncio" not in loaded


def test_artifact_is_immutable(publish) -> None:
    made: Artifact = publish()
    with pytest.raises(AttributeError):
        made.path = Path()  # type: ignore[misc]


@pytest.mark.parametrize("replaces", [False, True])
def test_all_is_flushed_before_the_name_appears_and_its_folder_after(store, publish, monkeypatch, replaces):
    """What a power cut would show: no name without its bytes."""
    old = publish() if replaces else None
    target, flush = layout.path_of(store.root, "prep", KEY), os.fsync
    was = manifest_of(target)
    hidden: list[tuple[str, int]] = []
    after: list[str] = []

    def fsync(handle: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if manifest_of(target) == was:
            hidden.append((place.name, place.stat().st_size if place.is_file() else 0))
        else:
            after.append(place.name)
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    made = publish(replaces=old)
    for path in made.path.rglob("*"):
        assert (path.name, path.stat().st_size if path.is_file() else 0) in hidden, path
    last = hidden.index((manifest.NAME, (made.path / manifest.NAME).stat().st_size))
    assert ("content", 0) in hidden[last:], "the folder, once the manifest is in it"
    assert target.parent.name in after


def manifest_of(folder: Path) -> int | None:
    """The inode of an artifact's manifest: another one's is another."""
    path = folder / manifest.NAME
    return path.stat().st_ino if path.is_file() else None


def test_a_link_in_the_place_of_a_file_is_damage(publish, tmp_path):
    """Of the same size, even of the same bytes: what it names can change."""
    made = publish()
    path = made.path / "a.bin"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    size = path.lstat().st_size
    for length in (size, path.stat().st_size):
        (tmp_path / "elsewhere").write_bytes(b"x" * length)
        assert made.verify(full=False), length
