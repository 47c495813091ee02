"""Reading the nuScenes tables: JSON lists of records, checked on the way in, so that no bad table gets further."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hvd.errors import InputError

Record = dict[str, Any]
Keep = Callable[[Record], bool]

_LARGEST = 1e9  # metres or pixels: no pose on Earth and no lens is larger


def read_table(folder: Path, name: str, keep: Keep | None = None) -> "Table":
    """The table `folder/name.json`, or only the records that `keep` says.

    Raises:
        InputError: missing, no JSON list of records with tokens, NaN in it, or a token or a field that occurs twice.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise InputError("missing table", where=path)

    # Dropping records while they are parsed keeps the millions of sweeps of the full data set out of memory.
    def hook(fields: list[tuple[str, Any]]) -> Record | None:
        record = dict(fields)
        if len(record) != len(fields):
            raise ValueError(f"a field occurs twice in the record {record.get('token')!r}")
        return record if keep is None or keep(record) else None

    try:
        with path.open(encoding="utf8") as file:
            rows = json.load(file, object_pairs_hook=hook, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("cannot read the table", where=path, why=str(error) or type(error).__name__) from None
    if not isinstance(rows, list):
        raise InputError("bad table", where=path, why="not a list of records")
    return Table(path, [row for row in rows if row is not None])


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


class Table:
    """Records by token, in file order."""

    def __init__(self, path: Path, rows: Iterable[Any]) -> None:
        self.path = path
        self._records: dict[str, Record] = {}
        for row in rows:
            token = row.get("token") if isinstance(row, dict) else None
            if not isinstance(token, str) or not token.isprintable():
                raise InputError("bad table", where=path, why="a record without a token in plain text")
            if token in self._records:
                raise InputError("bad table", where=path, why=f"duplicate token {token}")
            self._records[token] = row

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, token: str, wanted_by: str) -> Record:
        """The record of a token.

        Raises:
            InputError: there is none; names who wanted it.
        """
        if token not in self._records:
            raise InputError("dangling token", where=self.path, why=f"{token} does not exist, named by {wanted_by}")
        return self._records[token]

    def text(self, record: Record, field: str) -> str:
        """A field that holds plain text: no control codes, nothing that can't be part of a file's name.

        Raises:
            InputError: naming token and field.
        """
        value: str = self._field(record, field, str)
        if not value.isprintable():
            self.bad(record, field, f"{value!r} is no plain text")
        return value

    def whole(self, record: Record, field: str) -> int:
        """A field that holds a whole number.

        Raises:
            InputError: naming token and field.
        """
        value: int = self._field(record, field, int)
        return value

    def numbers(self, record: Record, field: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A field that holds numbers of a given shape, none so large that arithmetic could overflow.

        Raises:
            InputError: naming token and field.
        """
        try:
            value = np.asarray(record.get(field), dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            value = np.empty(0)
        if value.shape != shape or not (np.abs(value) <= _LARGEST).all():  # false for NaN
            self.bad(record, field, f"not {math.prod(shape)} finite numbers up to {_LARGEST:g}")
        return value

    def bad(self, record: Record, field: str, why: str) -> NoReturn:
        """Refuse a field of a record."""
        raise InputError("bad table", where=self.path, why=f"{field} of {record['token']}: {why}")

    def _field(self, record: Record, field: str, kind: type[Any]) -> Any:
        value = record.get(field)
        if not isinstance(value, kind) or isinstance(value, bool):
            self.bad(record, field, f"{value!r} is no {kind.__name__}")
        return value
