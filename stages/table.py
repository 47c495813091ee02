"""The result table: every value of every seed, with the protocol line and the key behind each cell."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from cache.work import Work
from hvd.errors import CorruptError
from stages.runtime import Runtime
from stages.specs import TableConfig


def run(config: TableConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Collect the evaluations into table.json and table.md."""
    cells = []
    for (row, column, seed), folder in zip(config.cells, inputs.values(), strict=True):
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
        cells.append(
            {
                "row": row,
                "column": column,
                "seed": seed,
                "miou": metrics["miou"],
                "key": folder.name,
                "protocol": metrics["protocol"],
            }
        )
    (work.folder / "table.json").write_text(json.dumps({"cells": cells}, indent=1), encoding="utf8")
    (work.folder / "table.md").write_text(markdown(cells), encoding="utf8")
    return {"cells": len(cells)}


def load_cells(folder: Path) -> list[dict[str, Any]]:
    """The cells of a finished table.

    Raises:
        CorruptError: the file does not hold them.
    """
    try:
        cells: list[dict[str, Any]] = json.loads((folder / "table.json").read_text(encoding="utf8"))["cells"]
        return cells
    except (OSError, ValueError, KeyError) as error:
        raise CorruptError("cannot read the table", where=folder, why=str(error), hint="run: hvd verify") from None


def grid(cells: list[dict[str, Any]]) -> tuple[list[str], dict[str, dict[str, list[float]]]]:
    """Column names, and values by row and column in the order of the seeds."""
    columns = list(dict.fromkeys(cell["column"] for cell in cells))
    rows: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        rows.setdefault(cell["row"], {}).setdefault(cell["column"], []).append(cell["miou"])
    return columns, rows


def show(values: list[float]) -> str:
    """The mean, and every value behind it."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{fmean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})"


def markdown(cells: list[dict[str, Any]]) -> str:
    """The table, then the protocol line and key of every cell."""
    columns, rows = grid(cells)
    lines = ["mIoU in percent: the mean, and every fine-tuning seed in brackets.", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for row, values in rows.items():
        lines.append(f"| {row} | " + " | ".join(show(values.get(column, [])) for column in columns) + " |")
    lines += ["", "| row | column | seed | mIoU | artifact | protocol |", "|---|---|--:|--:|---|---|"]
    lines += [
        f"| {c['row']} | {c['column']} | {c['seed']} | {c['miou']:.2f} | `{c['key'][:16]}` | {c['protocol']} |"
        for c in cells
    ]
    return "\n".join(lines) + "\n"
