"""One console for people (stderr) and one for results (stdout): colours on a terminal, plain lines when piped."""

import contextlib
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

T = TypeVar("T")
_PLAIN_INTERVAL_S = 10.0  # how often progress prints a line when nobody watches a terminal

console = Console(stderr=True, highlight=False, soft_wrap=True)
_state = {"quiet": False}
_prefix = {"text": ""}
_recent: deque[str] = deque(maxlen=100)  # for a bug report


def recent() -> tuple[str, ...]:
    """The last lines that were logged, also when quiet."""
    return tuple(_recent)


def configure(*, quiet: bool = False, prefix: str = "") -> None:
    """Set the verbosity of the process, and what its lines begin with: the name of one of several side by side."""
    _state["quiet"] = quiet
    _prefix["text"] = f"{prefix} " if prefix else ""
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # a deprecation inside torchvision's own code


def is_quiet() -> bool:
    """Whether only warnings and errors are printed."""
    return _state["quiet"]


def info(message: str) -> None:
    """Print one line for people."""
    _recent.append(message)
    if not _state["quiet"]:
        _emit(escape(_prefix["text"] + message))


def warn(message: str) -> None:
    """Print one warning, also when quiet."""
    _recent.append(f"warning: {message}")
    _emit(f"{escape(_prefix['text'])}[yellow]warning:[/] {escape(message)}")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print aligned rows below an error."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        _emit(escape("  " + "  ".join(padded).rstrip()))


def error(message: str) -> None:
    """Print one error line."""
    _emit(f"[red]error:[/] {escape(message)}")


def _emit(markup: str) -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        with contextlib.suppress(OSError):  # the end of the command says what stdout can't take
            sys.stdout.flush()  # in a log that takes both, what was printed first stands first
    try:
        console.print(markup)
    except OSError:  # the reader of our stderr left, or its disk is full: keep working, say no more
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  as long as the process
        console.file = sys.stderr


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` with a progress bar on a terminal, and a plain line every ten seconds elsewhere."""
    count = total if total is not None else len(items)  # type: ignore[arg-type]
    if _state["quiet"]:
        yield from items
    elif console.is_terminal:
        from rich.progress import track as rich_track

        yield from rich_track(items, label, total=count, console=console)
    else:
        yield from _track_plain(items, label, count)


def _track_plain(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= _PLAIN_INTERVAL_S:
            last = now
            info(f"{label}: {done}/{total} ({now - start:.0f} s)")
