"""Field-by-field differences between the inputs of two keys."""

from typing import Any

from cache.key import canonical_json


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The dotted fields that differ, sorted, each with its old and new value; None where the field is absent.

    Lists are compared whole. `1` and `1.0` differ, as they do in keys.
    """
    before, after = _flatten(old), _flatten(new)
    changed = (name for name in sorted(before.keys() | after.keys()) if not _same(name, before, after))
    return [(name, before.get(name), after.get(name)) for name in changed]


def _same(name: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    return name in before and name in after and canonical_json(before[name]) == canonical_json(after[name])


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
