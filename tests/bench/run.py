"""`make bench`: every benchmark as a ratio against a plain implementation, into docs/performance.md."""

import os
import platform
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

BENCHES = ("projection", "splat", "pooling", "contrastive", "epoch", "noop")
REPORT = Path(__file__).parents[2] / "docs" / "performance.md"
FORMS = {"plain_s": ".3f", "ours_s": ".3f", "ratio": ".1f", "plain_mib": ".0f", "ours_mib": ".0f"}
HEADER = """# Performance

Made by `make bench` on {machine}. Every row compares with a plain implementation of the same thing in the same run
(`tests/bench/`); times are medians, memory is the growth of the peak resident set over the run. Ratios travel between
machines, seconds don't.

| what | plain, s | ours, s | ratio | plain, MiB | ours, MiB |
|---|--:|--:|--:|--:|--:|
"""


def main() -> None:
    """Run all benchmarks and write the report."""
    rows = [row for name in BENCHES for row in import_module(f"tests.bench.bench_{name}").run()]
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, no GPU used"
    report = HEADER.format(machine=machine) + "".join(map(line, rows))
    REPORT.write_text(report, encoding="utf8")
    sys.stdout.write(report)


def line(row: dict[str, Any]) -> str:
    """A row of the table; a figure that a benchmark does not measure stays empty."""
    cells = [row["name"]]
    for name, form in FORMS.items():
        cells.append("" if row.get(name) is None else format(row[name], form))
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    main()
