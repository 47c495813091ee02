"""Strict, frozen configuration: recipe < file < `--set`; an unknown key is refused, and the nearest name told."""

import difflib
import json
import reprlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hvd.errors import UsageError

_MAX_BYTES = 1 << 20  # of a config file
_MAX_DOTS = 100  # in a line of it: tomllib needs memory with the square of a dotted key's length
_MAX_DEPTH = 20  # names in an assignment
_MAX_HINTS = 3


class Config(BaseModel):
    """Base of every configuration: immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def resolved(self) -> dict[str, Any]:
        """All fields as plain JSON values, defaults written out: what enters a key."""
        return self.model_dump(mode="json", exclude_none=True)

    def with_(self, **changes: Any) -> Self:
        """A validated copy with some fields replaced; raises UsageError as `parse` does."""
        return parse(type(self), {**dict(self), **changes})


C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=BaseModel)
Tree = dict[str, Any]


def parse(cls: type[C], tree: Mapping[str, Any]) -> C:
    """Validate `tree` as `cls`.

    Raises:
        UsageError: naming the dotted path of the first wrong key and the nearest valid name.
    """
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        loc = _as_written(tree, [str(part) for part in first["loc"]], is_absent=first["type"] == "missing")
        where = ".".join(loc)
        if first["type"] == "value_error":  # a rule of ours over several fields
            rule = first["msg"].removeprefix("Value error, ")
            raise (UsageError(f"bad value for {where}", why=rule) if where else UsageError(rule)) from None
        if first["type"] == "extra_forbidden":
            raise UsageError(f"unknown option {where}", hint=_hint(cls, tree, loc)) from None
        raise UsageError(f"bad value for {where}", why=f"{first['msg']}, got {_shorten(first['input'])}") from None


def _as_written(tree: Any, loc: list[str], is_absent: bool) -> list[str]:
    """The path in the user's words: without the tags that pydantic puts in for the members of a union.

    Args:
        is_absent: `tree` lacks what the path's last name stands for.
    """
    out = []
    for place, name in enumerate(loc):
        last = place == len(loc) - 1
        if isinstance(tree, Mapping) and name not in tree and not (last and is_absent):
            continue
        if isinstance(tree, str | int | float):  # a plain value where a table belongs has no names
            continue
        out.append(name)
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return out


_short = reprlib.Repr()  # stops early, however deep a value is nested
_short.maxstring = _short.maxother = 60


def _shorten(value: object) -> str:
    text = _short.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def closest(classes: Iterable[type[M]], tree: Any) -> type[M]:
    """The class that shares most field names with `tree`; of equals, the first."""
    names = set(tree) if isinstance(tree, Mapping) else set()
    return max(classes, key=lambda cls: len(names & cls.model_fields.keys()))


def _names_beside(cls: type[BaseModel], tree: Any, loc: list[str]) -> list[str]:
    """Field names of the nested config at `loc`; where there may be several, of the one that `tree` is closest to."""
    for name in loc:
        nested = list(_configs_in(cls.model_fields[name].annotation)) if name in cls.model_fields else []
        if not nested:
            return []
        tree = tree.get(name) if isinstance(tree, Mapping) else None
        cls = closest(nested, tree)
    return list(cls.model_fields)


def _configs_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _configs_in(part)


def _hint(cls: type[BaseModel], tree: Any, loc: list[str]) -> str:
    """The nearest name beside the wrong one, or where the name itself is right; else all that are valid there."""
    valid = sorted(_names_beside(cls, tree, loc[:-1]))
    close = difflib.get_close_matches(loc[-1], valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean {'.'.join([*loc[:-1], close[0]])}?"
    above = ".".join([*loc[:-1], ""])
    elsewhere = [path for path in dict.fromkeys(_paths(cls)) if path.startswith(above) and path.endswith("." + loc[-1])]
    if elsewhere:
        more = ", ..." if len(elsewhere) > _MAX_HINTS else ""
        return f"did you mean {', '.join(elsewhere[:_MAX_HINTS])}{more}?"
    return f"valid: {', '.join(valid)}"


def _paths(cls: type[BaseModel]) -> Iterator[str]:
    """The dotted names of all fields of `cls` and of the configs in it."""
    for name, field in cls.model_fields.items():
        yield name
        for nested in _configs_in(field.annotation):
            yield from (f"{name}.{path}" for path in _paths(nested))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` with `over` laid on top, table by table; neither argument changes."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def read_toml(path: Path) -> Tree:
    """A TOML file as a tree.

    Raises:
        UsageError: the file can't be read, is not TOML, or is far larger than any configuration.
    """
    try:
        with path.open(encoding="utf8") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES or max((line.count(".") for line in text.splitlines()), default=0) > _MAX_DOTS:
            raise ValueError(f"over {_MAX_BYTES} characters, or a line with over {_MAX_DOTS} dots")
        return tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError("cannot read the config file", where=path, why=why) from None


def parse_set(assignments: Iterable[str]) -> Tree:
    """`["pretrain.bev.weight=0.5"]` as a tree; values are JSON, or else plain strings.

    Raises:
        UsageError: an assignment without `=` or with an empty name, or a plain value and a table under one name.
    """
    tree: Tree = {}
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        names = dotted.strip().split(".")
        if not equals or not all(names) or len(names) > _MAX_DEPTH:
            raise UsageError(f"bad --set {_shorten(assignment)}", hint="write --set stage.key=value")
        leaf: Any = _value(text.strip())
        for name in reversed(names):
            leaf = {name: leaf}
        _refuse_both(tree, names, leaf)
        tree = merge(tree, leaf)
    return tree


def _refuse_both(tree: Any, names: list[str], leaf: Any) -> None:
    """Raises UsageError where one of `tree` and `leaf` has a plain value and the other a table: one would be lost."""
    for place, name in enumerate(names, 1):
        if name not in tree:
            return
        tree, leaf = tree[name], leaf[name]
        if isinstance(tree, dict) != isinstance(leaf, dict):
            raise UsageError(f"{'.'.join(names[:place])} is set as a whole and in part", hint="leave one of them out")
        if not isinstance(tree, dict):
            return


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
