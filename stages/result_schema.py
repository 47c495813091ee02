"""What the files of the study's values must hold: they are committed, merged and edited by hand."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from stages.study import COLUMNS, ROWS

_COLUMN_NAMES = tuple(column.name for column in COLUMNS)


def _known(names: tuple[str, ...], what: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"{name!r} is no {what} of this version")
        return name

    return AfterValidator(check)


class _Record(BaseModel):
    """More fields than these may stand there."""

    model_config = ConfigDict(extra="allow", strict=True)

    row: Annotated[str, _known(tuple(ROWS), "row")]
    column: Annotated[str, _known(_COLUMN_NAMES, "column")]
    value: FiniteFloat
    plan: str
    key: str
    machine: str


class _Effort(BaseModel):
    """Of a training."""

    model_config = ConfigDict(extra="allow", strict=True)

    steps: int
    train_cpu_seconds: FiniteFloat | None = None


class Cell(_Record):
    """One value of the table."""

    seed: Annotated[int, Field(ge=0)]
    by_range: dict[str, FiniteFloat | None]
    per_class: dict[str, FiniteFloat | None]
    protocol: str
    trainings: dict[str, _Effort] = {}


class Trial(_Record):
    """One trial of a learning rate."""

    rate: Annotated[FiniteFloat, Field(gt=0)]


def check(records: Any, kind: type[Cell] | type[Trial]) -> None:
    """Raises ValueError that names the first record, and its field, that is not as `kind` says, or stands there twice.

    Args:
        records: as they were read.
        kind: of each.
    """
    try:
        found: list[Cell | Trial] = TypeAdapter(list[kind]).validate_python(records)  # type: ignore[valid-type]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ValueError(f"{kind.__name__.lower()}s{where}: {first['msg'].removeprefix('Value error, ')}") from None
    seen = set()
    for number, item in enumerate(found):
        place = item.row, item.column, item.seed if isinstance(item, Cell) else item.rate
        if place in seen:
            raise ValueError(f"{kind.__name__.lower()}s[{number}]: {', '.join(map(str, place))} is there twice")
        seen.add(place)
