"""`hvd world`."""

from cache.store import Store
from tests.cli.small_store import run_json


def test_a_dry_run_of_the_audit_counts_its_training(store: Store) -> None:
    plan = run_json(store, "world", "--audit", "--dry-run", "--recipe", "mini")
    assert [row["stage"] for row in plan] == [*["world"] * 3, "frames", "labels", "finetune", "eval"]
    assert [row["steps"] for row in plan if row["stage"] == "finetune"] == [1200]
    assert [row["stage"] for row in run_json(store, "world", "--dry-run", "--recipe", "mini")] == ["world"] * 3
