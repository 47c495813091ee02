"""Tables on stdout: drawn on a terminal that is wide enough, plain aligned columns elsewhere."""

import shutil
import sys
from collections.abc import Sequence

_CELL_FRAME = 3  # characters that a drawn table adds to each cell


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `rows`, one cell for each of `columns`."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    room = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and sum(widths) + _CELL_FRAME * len(widths) < room:
        _draw(columns, cells)
    else:
        for row in (columns, *cells):
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print_line("  ".join(padded).rstrip())


def print_line(text: str) -> None:
    """Print one line of a result on stdout; what its encoding lacks, such as bytes of an odd file name, is escaped."""
    encoding = sys.stdout.encoding or "utf8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def short_time(moment: str) -> str:
    """An ISO 8601 time to the minute."""
    return moment[:16].replace("T", " ")


def _draw(columns: Sequence[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
