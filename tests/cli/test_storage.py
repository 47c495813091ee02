"""The commands that change the store, on stores of a few small artifacts."""

from pathlib import Path

import pytest

from cache import failpoint
from cache.artifact import Artifact
from cache.store import Store
from hvd.cli.storage import parse_age
from hvd.errors import HvdError, UsageError
from tests.cli.small_store import code, damage, publish, run, run_json


def test_gc_deletes_only_with_yes_and_spares_the_pinned(store: Store, chain: list[Artifact]) -> None:
    other = publish(store, "eval")
    run(store, "pin", chain[3].key[:8])
    arguments = ("gc", "--older-than", "0s")
    assert [item["path"] for item in run_json(store, *arguments)["items"]] == [str(other.path)]
    assert other.path.exists()
    assert run_json(store, *arguments, "--keep", "1")["items"] == []  # the newest, and only, evaluation
    assert code(run(store, "gc", "--keep", "0")) == 2
    done = run_json(store, *arguments, "--yes")
    assert done["items"][0]["deleted"] and done["size_bytes"] == other.size_bytes
    assert not other.path.exists() and all(item.path.exists() for item in chain)
    assert "nothing to delete" in run(store, *arguments, "--yes").stderr


def test_gc_says_what_is_in_use(store: Store) -> None:
    item = publish(store, "eval")
    with item.reading():
        result = run(store, "gc", "--older-than", "0s", "--yes")
    assert "kept: is in use" in result.stdout and "deleted 0, 0 B; kept 1" in result.stderr
    assert item.path.exists()


def test_gc_removes_damaged_artifacts_when_asked(store: Store) -> None:
    item = publish(store, "eval")
    (item.path / "manifest.json").write_text("{}")
    assert run_json(store, "gc", "--yes")["items"] == []
    assert len(run_json(store, "gc", "--damaged", "--yes")["items"]) == 1
    assert not item.path.exists()


def test_pins_come_and_go(store: Store, chain: list[Artifact]) -> None:
    assert run_json(store, "pin", chain[0].key[:8]) == {"key": chain[0].key, "pinned": True}
    assert store.pins() == {chain[0].key}
    assert run_json(store, "unpin", chain[0].key[:4]) == {"key": chain[0].key, "pinned": False}
    assert not store.pins()
    assert code(run(store, "unpin", chain[0].key[:4])) == 3


def test_pack_and_unpack(store: Store, chain: list[Artifact], tmp_path: Path) -> None:
    file, other = tmp_path / "frames.tar", Store(tmp_path / "other")
    assert run_json(store, "pack", chain[0].key[:8], file)["key"] == chain[0].key
    assert [item["key"] for item in run_json(other, "unpack", file)] == [chain[0].key]
    assert [item.digest for item in other.artifacts()] == [chain[0].digest]
    assert code(run(other, "unpack", tmp_path / "absent.tar")) == 3
    (tmp_path / "page.tar").write_text("<html>" * 200)
    assert code(run(other, "unpack", tmp_path / "page.tar")) == 3
    assert code(run(store, "pack", chain[0].key, tmp_path / "no" / "frames.tar")) == 2


def test_errors_of_pack_and_unpack_say_what_helps(
    store: Store, chain: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what helps a stage: gc, or another store."""
    file, other, key = tmp_path / "frames.tar", Store(tmp_path / "other"), chain[0].key[:8]

    def error(*arguments: object, into: Store = store) -> tuple[int, str]:
        result = run(into, *arguments)
        assert isinstance(result.exception, HvdError), result.exception
        return code(result), str(result.exception)

    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "_armed", failpoint.parse("pack.write:1:enospc"))
        number, text = error("pack", key, file)
        assert number == 6 and text.endswith("; free some, or name a file on another disk")
    run_json(store, "pack", key, file)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"framesframes", b"framesfrAmes", 1))
    number, text = error("unpack", file, into=other)
    assert number == 4 and str(file) in text and text.endswith("; copy it again, or pack it again")
    assert other.artifacts() == []
    damage(chain[0])
    number, text = error("pack", key, file)
    assert number == 4 and text.endswith(f"; run: hvd verify {key} --repair")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("30d", 2592000), ("2w", 1209600)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "3x", "1d2h"])
def test_bad_ages(text: str) -> None:
    with pytest.raises(UsageError, match="30d"):
        parse_age(text)
