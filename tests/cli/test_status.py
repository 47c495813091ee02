"""`hvd status`, on stores of a few small artifacts."""

import json

from cache.artifact import Artifact
from cache.store import Store
from stages.provenance import code_digest
from tests.cli.small_store import code, publish, run, run_json


def test_status_counts_and_names_the_newest(store: Store, chain: list[Artifact]) -> None:
    second = publish(store, "frames", {"dataset": "semkitti"})
    found = run_json(store, "status")
    frames = next(row for row in found["stages"] if row["stage"] == "frames")
    assert (frames["count"], frames["newest"]) == (2, second.key)
    assert frames["size_bytes"] == chain[0].size_bytes + second.size_bytes
    assert found["damaged"] == found["unfinished"] == []
    lines = run(store, "status").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "finetune", "frames", "labels", "pretrain"]


def test_status_says_when_code_changed(store: Store) -> None:
    states = {}
    for stage, digest in (("frames", code_digest("stages.prep_frames")), ("labels", "0" * 64), ("future", "0" * 64)):
        publish(store, stage, code=digest)
    for row in run_json(store, "status")["stages"]:
        states[row["stage"]] = row["code"]
    assert states == {"frames": "same", "labels": "changed since", "future": "unknown"}


def test_status_check_fails_when_something_is_not_current(store: Store) -> None:
    store.root.mkdir()
    assert code(run(store, "status", "--check")) == 0  # an empty store is current
    publish(store, "frames", code=code_digest("stages.prep_frames"))
    publish(store, "future", code="0" * 64)  # of a stage that this version does not know
    assert code(run(store, "status", "--check")) == 0
    old = publish(store, "labels", code="0" * 64)
    assert code(run(store, "status")) == 0
    result = run(store, "status", "--check")
    assert code(result) == 7 and "code changed since the newest labels" in str(result.exception)
    result = run(store, "status", "--check", "--json")
    assert code(result) == 7
    assert [row["stage"] for row in json.loads(result.stdout)["stages"] if row["code"] == "changed since"] == ["labels"]
    publish(store, "labels", {"again": True}, code=code_digest("stages.prep_labels"))  # the newest counts
    assert code(run(store, "status", "--check")) == 0
    (old.path / "manifest.json").write_text("{}")
    result = run(store, "status", "--check")
    assert code(result) == 7 and "1 damaged" in str(result.exception)


def test_status_check_looks_at_files(store: Store, chain: list[Artifact]) -> None:
    lost = next(path for path in chain[0].path.iterdir() if path.name not in ("manifest.json", "files.json"))
    lost.unlink()
    assert code(run(store, "status")) == 0
    assert code(run(store, "status", "--check")) == 7
    assert str(lost) in run(store, "status", "--check").stdout
    manifest = chain[1].path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    refused = run(store, "verify", chain[1].key)
    assert code(refused) == 4 and "can't be repaired" in str(refused.exception)


def test_status_shows_damaged_and_unfinished(store: Store, chain: list[Artifact]) -> None:
    manifest = chain[1].path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with store.claim("eval", "d" * 64):
        pass  # nothing was begun: nothing is left
    with store.claim("eval", "e" * 64) as work:  # nothing is published
        (work.folder / "begun").touch()
        during = run_json(store, "status")["unfinished"]
    assert during[0]["stage"] == "eval" and during[0]["state"].startswith("process ")
    after = run_json(store, "status")
    assert [item["key"] for item in after["unfinished"]] == ["e" * 64]
    assert after["unfinished"][0]["state"].startswith("left by")
    assert str(manifest) in after["damaged"][0]["why"]
    assert f"damaged: bad manifest: {manifest}" in run(store, "status").stdout


def test_empty_store_is_no_error(store: Store) -> None:
    for command in ("status", "ls", "gc"):
        result = run(store, command)
        assert code(result) == 0 and result.stdout == ""
    assert not store.root.exists()
