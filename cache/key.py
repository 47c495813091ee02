"""Keys and digests: sha256 of canonical JSON, the same on every machine and in every process.

Canonical JSON has keys sorted by code point, no spaces, UTF-8 text unescaped, floats in Python's shortest form that
reads back unchanged, and no NaN or infinity. `1` and `1.0` are different here: whoever computes a key gives each field
its type first (a `float` field of a Config turns `1` into `1.0`), so the spelling in a file never matters.
"""

import hashlib
import json
import re
from pathlib import Path

KEY_PATTERN = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


def canonical_json(value: object) -> str:
    """`value` (JSON types; tuples count as lists) as canonical JSON.

    Raises:
        ValueError: NaN, infinity, a circle, or text that is not Unicode (a lone surrogate).
        TypeError: a type that JSON lacks, or a dictionary key that is not a string.
    """
    _require_text_keys(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    text.encode("utf8")  # raises on lone surrogates
    return text


def _require_text_keys(value: object) -> None:
    """json.dumps would write the keys 1 and "1" alike."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings, got {key!r}")
            _require_text_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_text_keys(item)


def key_of(value: object) -> str:
    """sha256 of the canonical JSON of `value`, in hexadecimal; raises as `canonical_json` does."""
    return hashlib.sha256(canonical_json(value).encode("utf8")).hexdigest()


def digest_of_file(path: Path) -> str:
    """sha256 of the bytes of a file, in hexadecimal; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
