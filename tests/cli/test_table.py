"""`hvd table` on a folder that another one writes into."""

from pathlib import Path

import pytest

from cache.errors import Busy
from cache.store import Store
from hvd.cli import table
from hvd.cli.table import _alone
from tests.cli.small_store import code, run


def test_a_second_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_measure", lambda *_: None)
    out, store = tmp_path / "out", Store(tmp_path / "store")
    arguments = ("table", "--recipe", "smoke", "--out", out)
    with _alone(out):
        second = run(store, *arguments)
        assert code(second) == 5 and isinstance(second.exception, Busy)
        assert f"another hvd table writes into {out}" in str(second.exception)
        assert code(run(store, *arguments, "--dry-run")) == 0
    assert code(run(store, *arguments)) == 0
    assert list(out.iterdir()) == []
