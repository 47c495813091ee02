"""Manifests: every altered bit is noticed, and a newer schema is told from damage."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import manifest
from cache.errors import Corrupt, Newer
from cache.key import key_of
from cache.manifest import Manifest, parse, read_manifest

KEY_INPUTS = {"stage": "prep", "rate": 0.1}
SAMPLE = Manifest(
    stage="prep",
    key=key_of(KEY_INPUTS),
    digest="0" * 64,
    sequence=7,
    size_bytes=12,
    file_count=1,
    created="2025-01-02T03:04:05+00:00",
    key_inputs=KEY_INPUTS,
    parents=({"name": "world", "stage": "world", "key": "1" * 64, "digest": "2" * 64},),
    details={"metrics": {"loss": 1e-7}, "command": "hvd prep \udcff ü"},
)
PATH = Path("manifest.json")


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / manifest.NAME
    path.write_bytes(SAMPLE.to_bytes())
    assert read_manifest(path) == SAMPLE
    assert json.loads(path.read_bytes())["details"] == SAMPLE.details  # any JSON reader can use it
    assert read_manifest(tmp_path / "other" / manifest.NAME) is None


def test_every_flipped_bit_is_noticed() -> None:
    data = SAMPLE.to_bytes()
    for place in range(len(data)):
        for bit in range(8):
            altered = bytearray(data)
            altered[place] ^= 1 << bit
            with pytest.raises(Corrupt, match=r"manifest\.json"):
                parse(bytes(altered), PATH)


def test_every_truncation_is_noticed() -> None:
    data = SAMPLE.to_bytes()
    for length in range(len(data)):
        with pytest.raises(Corrupt):
            parse(data[:length], PATH)


@given(st.binary(max_size=300))
def test_any_other_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse(data, PATH)


def test_newer_schema() -> None:
    newer = replace(SAMPLE, schema=manifest.SCHEMA + 1)
    with pytest.raises(Newer, match="written by a newer version"):
        parse(newer.to_bytes(), PATH)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0},
        {"schema": True},
        {"schema": "2"},
        {"stage": "../prep"},
        {"key": "0" * 64},
        {"digest": "0" * 63},
        {"sequence": -1},
        {"sequence": 1.0},
        {"size_bytes": True},
        {"created": None},
        {"key_inputs": []},
        {"parents": ({"name": "world"},)},
        {"parents": ("world",)},
        {"details": "none"},
    ],
    ids=str,
)
def test_sealed_but_wrong_fields_are_corrupt(change: dict[str, Any]) -> None:
    with pytest.raises(Corrupt):
        parse(replace(SAMPLE, **change).to_bytes(), PATH)


def test_sealed_nesting_bomb_is_corrupt() -> None:
    body = b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    with pytest.raises(Corrupt):
        parse(manifest._BRACE + manifest._checksum_line(body) + body, PATH)


def test_absurd_size_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / manifest.NAME
    with open(path, "wb") as file:
        file.truncate(10**13)  # sparse: a claim of 10 TB that takes no disk
    with pytest.raises(Corrupt, match="over"):
        read_manifest(path)
