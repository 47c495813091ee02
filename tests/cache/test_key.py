"""Keys: golden values, stability over processes, and what is refused."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.key import canonical_json, digest_of_file, key_of

GOLDEN = {
    "{}": ({}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    "stage": (
        {"stage": "prep", "schema": 1, "config": {"views": ["ipv", "bev"], "lr": 0.1, "amp": False, "note": None}},
        "a4f4fe6f5a16b7b6502033f2051325ee849ac7bcbb7ee83bdb6ae338f51c8a61",
    ),
    "text": (
        {"é": "日本", "z": "\u2028", "A": 'quote " and \\'},
        "add597bc51356c551365a2c31d764a415472e3d2c5cc66d8aaac4d40d06e9ed0",
    ),
    "numbers": (
        {"n": [0, -1, 10**20, 0.1, 1e-9, 1e22, 5e-324]},
        "6629fcea3afef107aaf7afb5b82fcad4b42b665856de417e571084b0d0879485",
    ),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_keys(name: str) -> None:
    value, key = GOLDEN[name]
    assert key_of(value) == key


def test_canonical_text_written_by_hand() -> None:
    value = {"b": (1, 1.0), "a": {"z": "é", "y": None}, "B": True}
    assert canonical_json(value) == '{"B":true,"a":{"y":null,"z":"é"},"b":[1,1.0]}'
    assert key_of(value) == hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_canonical_json_reads_back(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), JSON, min_size=2))
def test_order_of_fields_does_not_matter(value: dict[str, object]) -> None:
    assert key_of(dict(reversed(value.items()))) == key_of(value)


def test_numbers_differ_by_type_alone() -> None:
    assert len({key_of({"x": value}) for value in (1, 1.0, True, "1")}) == 4


@pytest.mark.parametrize("value", [{"x": float("nan")}, [float("inf")], {"x": "\ud800"}])
def test_values_without_a_meaning_are_refused(value: object) -> None:
    with pytest.raises(ValueError):
        key_of(value)


@pytest.mark.parametrize("value", [{1: "a"}, [{"deep": {None: 1}}], {"x": {1, 2}}, {"x": Path()}, {"x": b""}])
def test_types_that_json_lacks_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        key_of(value)


def test_same_key_in_any_process(python) -> None:
    """Hash seed, locale and time zone play no part."""
    code = (
        "import cache.key; print(cache.key.key_of({'b': {'y', }.pop(), 'a': '\\xe9', **{n: 0.1 for n in {'p', 'q'}}}))"
    )
    environments = [
        {"PYTHONHASHSEED": "0", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ]
    outputs = [process.communicate()[0] for process in [python(code, **each) for each in environments]]
    assert outputs == [key_of({"a": "é", "b": "y", "p": 0.1, "q": 0.1}) + "\n"] * 3


def test_digest_of_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert digest_of_file(tmp_path / "x") == hashlib.sha256(b"abc" * 10**6).hexdigest()
