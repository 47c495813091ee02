"""The manifest: an artifact exists if and only if this file does, and any altered byte of it is noticed.

`manifest.json` is one indented JSON object whose first line is its `checksum`: the sha256 of the same text without that
line. Every future schema keeps this envelope, so that a newer manifest can be told from a damaged one.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cache.errors import Corrupt, Newer
from cache.key import KEY_PATTERN, key_of

SCHEMA = 1
NAME = "manifest.json"
MAX_BYTES = 64 << 20
STAGE_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_BRACE = b"{\n"
PARENT_FIELDS = frozenset({"name", "stage", "key", "digest"})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the store knows of an artifact.

    `digest` is the content digest, sha256 of `files.json`; `sequence` orders a store's artifacts by publication;
    `created` is UTC, ISO 8601; each parent has name, stage, key and digest; `details` is what the stage records.
    """

    schema: int = SCHEMA
    stage: str
    key: str
    digest: str
    sequence: int
    size_bytes: int
    file_count: int
    created: str
    key_inputs: dict[str, Any]
    parents: tuple[dict[str, str], ...]
    details: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The content of `manifest.json`; raises ValueError or TypeError where a field is not JSON."""
        return _seal({**asdict(self), "parents": list(self.parents)})


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at `path`, checked; None if there is none.

    Raises:
        Corrupt: truncated, altered, or fields that don't hold together.
        Newer: written by a newer version.
        OSError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Manifest:
    """The manifest that `data` holds; raises as `read_manifest`, naming `path`."""
    document = _open_envelope(data, path)
    schema = document.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise Newer("written by a newer version", path, f"schema {schema}, this version reads up to {SCHEMA}")
    reason = _wrong(document)
    if reason:
        raise Corrupt("bad manifest", path, reason)
    return Manifest(**{**document, "parents": tuple(document["parents"])})


def _seal(document: dict[str, Any]) -> bytes:
    """Escaped to ASCII: a command line may hold bytes that are no UTF-8."""
    text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False) + "\n"
    body = text.encode("ascii").removeprefix(_BRACE)
    return _BRACE + _checksum_line(body) + body


def _checksum_line(body: bytes) -> bytes:
    return b' "checksum": "%s",\n' % hashlib.sha256(_BRACE + body).hexdigest().encode()


def _open_envelope(data: bytes, path: Path) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise Corrupt("bad manifest", path, f"over {MAX_BYTES} bytes")
    body = data[len(_BRACE) + len(_checksum_line(b"")) :]
    if data != _BRACE + _checksum_line(body) + body:
        raise Corrupt("bad manifest", path, "its checksum does not match")
    try:
        document: dict[str, Any] = json.loads(_BRACE + body)
    except (ValueError, RecursionError) as error:
        raise Corrupt("bad manifest", path, str(error)) from None
    return document


def _wrong(document: dict[str, Any]) -> str:
    """What is wrong with the fields, or nothing."""
    names = {field.name for field in fields(Manifest)}
    if document.keys() != names:
        return f"fields {', '.join(sorted(document.keys() ^ names))}"
    for name, good in _checks(document).items():
        if not good:
            return f"field {name}"
    return "" if _gives_key(document) else "the key is not that of key_inputs"


def _gives_key(document: dict[str, Any]) -> bool:
    try:
        return bool(key_of(document["key_inputs"]) == document["key"])
    except (ValueError, RecursionError):  # NaN, or text that is not Unicode
        return False


def _checks(document: dict[str, Any]) -> dict[str, bool]:
    return {
        "schema": _is_count(document["schema"]) and document["schema"] == SCHEMA,
        "stage": _matches(STAGE_PATTERN, document["stage"]),
        "key": _matches(KEY_PATTERN, document["key"]),
        "digest": _matches(KEY_PATTERN, document["digest"]),
        **{name: _is_count(document[name]) for name in ("sequence", "size_bytes", "file_count")},
        "created": isinstance(document["created"], str),
        "key_inputs": isinstance(document["key_inputs"], dict),
        "parents": isinstance(document["parents"], list) and all(map(is_parent, document["parents"])),
        "details": isinstance(document["details"], dict),
    }


def is_parent(value: object) -> bool:
    """Whether `value` names an artifact as a manifest does: name, stage, key, digest, all text."""
    return isinstance(value, dict) and value.keys() == PARENT_FIELDS and all(isinstance(v, str) for v in value.values())


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
