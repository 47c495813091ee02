"""Results that are copied out of the store: whole files or none, and errors that say what helps."""

from pathlib import Path

import pytest

from cache import failpoint
from cache.artifact import Artifact
from cache.errors import NotFound
from cache.store import Store
from cache.work import discard
from hvd.errors import CorruptError, ResourceError, UsageError
from stages.copying import copy_files
from tests.cli.small_store import publish

TEXTS = {"a.txt": "alpha", "deep/b.txt": "beta", "deep/manifest.json": "{}"}


def write(folder: Path) -> None:
    (folder / "deep").mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def item(store: Store) -> Artifact:
    return publish(store, "export", write=write)


def there(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_copied_without_the_stores_own(item: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("older")
    (out / "mine").write_text("mine")
    copy_files(item, out)
    assert there(out) == {**TEXTS, "mine": "mine"}


def test_a_full_disk_leaves_whole_files_only(item: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "deep").mkdir()
    (out / "deep" / "b.txt").write_text("older")
    monkeypatch.setattr(failpoint, "_armed", failpoint.parse("copy.write:2:enospc"))
    with pytest.raises(ResourceError, match=r"no space left on the disk.*; name another --out"):
        copy_files(item, out)
    assert there(out) == {"a.txt": "alpha", "deep/b.txt": "older"}


def test_a_folder_where_a_file_should_go_and_the_reverse(item: Artifact, tmp_path: Path) -> None:
    (tmp_path / "one" / "a.txt").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"a folder is where a file should go: .*a\.txt"):
        copy_files(item, tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "deep").write_text("a file")
    with pytest.raises(UsageError, match=r"not a folder: .*deep"):
        copy_files(item, tmp_path / "two")


def test_an_artifact_that_gc_took_meanwhile(item: Artifact, store: Store, tmp_path: Path) -> None:
    discard(store.root, item.path)
    with pytest.raises(NotFound):
        copy_files(item, tmp_path / "out")


def test_a_damaged_artifact_is_not_copied(item: Artifact, tmp_path: Path) -> None:
    (item.path / "a.txt").write_text("wrong")
    with pytest.raises(CorruptError, match="damaged export artifact"):
        copy_files(item, tmp_path / "out")
    assert not (tmp_path / "out").exists()
