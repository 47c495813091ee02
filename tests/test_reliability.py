"""docs/reliability.md names tests: each of them exists, and every row of the list has one."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf8")
NAMED = re.findall(r"([\w/]+\.py):\s((?:`test_\w+`(?:,\s)?)+)", TEXT)


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_every_named_test_exists(path):
    source = (TESTS / path).read_text(encoding="utf8")
    names = {name for other, found in NAMED if other == path for name in re.findall(r"test_\w+", found)}
    assert names
    assert [name for name in sorted(names) if f"def {name}(" not in source] == []


def test_every_row_has_a_test_and_an_outcome():
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 36))
    assert all("`test_" in tests and outcome.strip() for _, _, tests, outcome in rows)
