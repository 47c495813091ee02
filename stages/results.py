"""The study's values as a file: committed as they come, gone on from, and shown with their statistics."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hvd.errors import InputError
from hvd.metrics.statistics import Interval, interval, paired
from stages import result_schema
from stages.graph import Step, in_order
from stages.intact import require_intact
from stages.runner import Outcome
from stages.study import COLUMNS, IPV, PARTS, RANDOM, ROWS, Cell
from stages.tuning import Trial

FILE, TRIALS_FILE = "table.json", "tuning.json"
SCHEMA = 1

_NAMES = ("row", "column", "seed", "rate", "plan")  # what tells records apart; a cell has a seed, a trial a rate

Record = Mapping[str, Any]  # of a cell or a trial, as it stands in the file
Planned = TypeVar("Planned", bound="Cell | Trial")
Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # row -> column -> seed -> mIoU or mAP in percent


def load(folder: Path) -> dict[str, Any]:
    """What an earlier run wrote: `command` and `cells`; no cells if there is no file.

    Raises:
        InputError: the file is none of ours.
    """
    return _read(folder / FILE, "cells", result_schema.Cell)


def load_trials(folder: Path) -> list[dict[str, Any]]:
    """The trials of learning rates that an earlier run wrote.

    Raises:
        InputError: the file is none of ours.
    """
    trials: list[dict[str, Any]] = _read(folder / TRIALS_FILE, "trials", result_schema.Trial)["trials"]
    return trials


def _read(path: Path, name: str, kind: type[result_schema.Cell] | type[result_schema.Trial]) -> dict[str, Any]:
    if not path.is_file():
        return {name: []}
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, expected {SCHEMA}")
        document["command"]  # shown above the values
        if "machine" in document:  # older files name it once
            for item in document[name]:
                item.setdefault("machine", document["machine"])
        result_schema.check(document[name], kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("cannot read the results", where=path, why=str(error), hint="name another folder") from None
    return document


def of_plan(records: Iterable[Record], planned: Iterable[Cell | Trial]) -> list[Any]:
    """The records of what is planned: what was measured otherwise is not mixed in."""
    names = {_identity(_named(item)) for item in planned}
    return [record for record in records if _identity(record) in names]


def not_in(records: Iterable[Record], planned: Iterable[Planned]) -> list[Planned]:
    """What is planned, and has no record."""
    names = {_identity(record) for record in records}
    return [item for item in planned if _identity(_named(item)) not in names]


def _named(item: Cell | Trial) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _NAMES if hasattr(item, name)}


def _identity(record: Record) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in _NAMES)


def write(folder: Path, cells: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write table.json and table.md; each appears whole."""
    ordered = sorted(cells, key=_place)
    _replace(folder / FILE, json.dumps({"schema": SCHEMA, **about, "cells": ordered}, indent=1) + "\n")
    _replace(folder / "table.md", markdown(ordered, about))


def write_trials(
    folder: Path, trials: Iterable[Mapping[str, Any]], about: Mapping[str, Any], rates: Sequence[float]
) -> None:
    """Write tuning.json and tuning.md, which shows the best of `rates`; each appears whole."""
    ordered = sorted(trials, key=lambda trial: (*_place({**trial, "seed": 0}), trial["rate"]))
    _replace(folder / TRIALS_FILE, json.dumps({"schema": SCHEMA, **about, "trials": ordered}, indent=1) + "\n")
    _replace(folder / "tuning.md", _trials_markdown(ordered, about, rates))


def _place(cell: Mapping[str, Any]) -> tuple[int, int, int]:
    columns = [column.name for column in COLUMNS]
    return list(ROWS).index(cell["row"]), columns.index(cell["column"]), cell["seed"]


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text, encoding="utf8")
    partial.replace(path)


def record(cell: Cell, done: Mapping[Step, Outcome]) -> dict[str, Any]:
    """What is kept of an evaluated cell.

    Args:
        cell: which.
        done: how its step and those below it ended.

    Raises:
        CorruptError: the store no longer holds what was evaluated.
    """
    found = done[cell.step].artifact
    require_intact(found)
    metrics = json.loads((found.path / "metrics.json").read_text(encoding="utf8"))
    return {
        **_named(cell),
        "value": _headline(metrics),
        "by_range": metrics.get("by_range", {}),
        "per_class": {name: value["iou"] for name, value in metrics.get("per_class", {}).items()},
        "ap": metrics.get("ap", {}),
        "protocol": metrics["protocol"],
        "trainings": {step.stage.name: _effort(done[step]) for step in in_order((cell.step,)) if step.stage.trains},
        "key": found.key,
        "made": found.manifest.created,
    }


def _effort(training: Outcome) -> dict[str, Any]:
    """Steps and seconds of a training."""
    metrics = training.artifact.details["metrics"]
    return {name: metrics[name] for name in ("steps", "train_seconds", "train_cpu_seconds") if name in metrics}


def _headline(metrics: Mapping[str, Any]) -> float:
    """The figure that stands for an evaluation, in percent: mIoU, or a detector's mean average precision.

    Raises:
        InputError: no object counts in what was scored, so that there is no average precision.
    """
    value = metrics["miou" if "miou" in metrics else "map"]
    if value is None:
        raise InputError("no object counts in the split: there is no average precision", hint="make a larger world")
    return float(value)


def record_trial(trial: Trial, done: Mapping[Step, Outcome]) -> dict[str, Any]:
    """What is kept of a trial of a learning rate; arguments as for `record`."""
    found = done[trial.step].artifact
    return {**_named(trial), "value": _headline(found.details["metrics"]), "key": found.key}


def by_cell(cells: Iterable[Mapping[str, Any]]) -> Values:
    """The headline figures by row, column and seed."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for cell in cells:
        values.setdefault(cell["row"], {}).setdefault(cell["column"], {})[cell["seed"]] = cell["value"]
    return values


def markdown(cells: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Every value, its mean, and the paired differences to random init and to IPV."""
    values = by_cell(cells)
    columns = [c.name for c in COLUMNS if any(c.name in found for found in values.values())]
    lines = [
        "# Built-in world: what distillation and the bird's-eye view are worth",
        "",
        f"Made by `{about['command']}` on {_machines(cells)}. mIoU in percent on validation worlds; a cell holds the",
        f"mean, and every pre-training seed's value in brackets. Teacher: {_teachers(cells)}. These numbers can't be",
        "compared with published ones. 64-beam and KITTI-like are the same generator, other sensors; mAP is the mean",
        "of the classes' 3D average precision, moderate, 40 recall points."
        + (f" The views of the recipe: {about['views']}." if "views" in about else ""),
        "",
        *_table("mIoU or mAP", columns, {row: {c: _show(values[row].get(c)) for c in columns} for row in values}),
    ]
    for reference in (RANDOM, IPV):
        lines += ["", f"Difference to {reference}, paired by seed: mean and 95 % t-interval (number of seeds); in bold"]
        lines += ["where the interval lies above zero.", ""]
        rows = [row for row in values if row != reference]
        lines += _table(f"minus {reference}", columns, {row: _differences(values, row, reference) for row in rows})
    parts = {f"{one} minus {other}": _differences(values, one, other) for one, other in PARTS if one in values}
    if any(parts.values()):
        lines += ["", "What single parts are worth: the same for pairs of rows that differ in one.", ""]
        lines += _table("pair", columns, {pair: found for pair, found in parts.items() if found})
    if efforts := _efforts(cells):
        lines += ["", "Pre-training: steps, and the processor seconds of each seed of which they were taken.", ""]
        lines += _table("pre-training", ["U-Net", "VoxelNet"], efforts)
    return "\n".join(lines) + "\n"


def _efforts(cells: Iterable[Record]) -> dict[str, dict[str, str]]:
    """What pre-training took, by row and kind of student."""
    found: dict[str, dict[str, dict[int, Record]]] = {}
    for cell in cells:
        effort = cell.get("trainings", {}).get("pretrain", {})
        if "train_cpu_seconds" in effort:
            kind = "VoxelNet" if cell["column"].startswith("KITTI") else "U-Net"
            found.setdefault(cell["row"], {}).setdefault(kind, {})[cell["seed"]] = effort

    def show(by_seed: Mapping[int, Record]) -> str:
        steps = " or ".join(sorted({f"{effort['steps']}" for effort in by_seed.values()}))
        return f"{steps}: " + ", ".join(f"{by_seed[seed]['train_cpu_seconds']:.0f}" for seed in sorted(by_seed))

    return {row: {kind: show(by_seed) for kind, by_seed in kinds.items()} for row, kinds in found.items()}


def _trials_markdown(trials: Sequence[Record], about: Mapping[str, Any], rates: Sequence[float]) -> str:
    """Every trial's value by row and column, the best one's rate in bold."""
    found: dict[str, dict[str, dict[float, float]]] = {}
    for trial in trials:
        found.setdefault(trial["row"], {}).setdefault(trial["column"], {})[trial["rate"]] = trial["value"]
    columns = [c.name for c in COLUMNS if any(c.name in cells for cells in found.values())]
    shown = {row: {column: _best(tried, rates) for column, tried in cells.items()} for row, cells in found.items()}
    lines = [
        "# Learning rates of the table, chosen on held-out training scenes",
        "",
        f"Made by `{about['command']}` on {_machines(trials)}. Every row and column gets the same trials: the rates",
        "of fine-tuning times each factor, with the student of pre-training seed 0, trained and scored on the two",
        "parts of the training scenes (`parametrize`). That student saw all training scenes, without labels. Factor:",
        "value in percent; the table takes the one in bold, as soon as all are there.",
        "",
        *_table("factor: value", columns, shown),
    ]
    return "\n".join(lines) + "\n"


def _best(found: Mapping[float, float], rates: Sequence[float]) -> str:
    # Of equals the first that the recipe names, as the study takes it; none while one is missing.
    taken = max(rates, key=lambda rate: found[rate]) if found.keys() >= set(rates) else None
    shown = {rate: f"{rate:g}: {value:.1f}" for rate, value in found.items()}
    return ", ".join(f"**{text}**" if rate == taken else text for rate, text in shown.items())


def _teachers(cells: Iterable[Record]) -> str:
    """Who taught the students, as their protocol lines end."""
    found = {cell["protocol"].partition(", teacher ")[2] for cell in cells} - {""}
    return " or ".join(sorted(found)) or "none yet"


def _machines(records: Iterable[Record]) -> str:
    return " and on ".join(sorted({record["machine"] for record in records}))


def _table(title: str, columns: list[str], rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    head = [f"| {title} | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    return head + [f"| {row} | " + " | ".join(found.get(c, "-") for c in columns) + " |" for row, found in rows.items()]


def _show(found: Mapping[int, float] | None) -> str:
    if not found:
        return "-"
    every = [found[seed] for seed in sorted(found)]
    return f"{interval(every).mean:.1f} ({', '.join(f'{value:.1f}' for value in every)})"


def _differences(values: Values, row: str, reference: str) -> dict[str, str]:
    found = {c: paired(values[row][c], values.get(reference, {}).get(c, {})) for c in values[row]}
    return {column: _signed(between) for column, between in found.items() if between is not None}


def _signed(between: Interval) -> str:
    if between.num < 2:
        return f"{between.mean:+.1f} (1)"
    text = f"{between.mean:+.1f} ± {between.half_width:.1f} ({between.num})"
    return f"**{text}**" if between.above_zero else text
