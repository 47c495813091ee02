"""The error family: each class carries the exit code that the command line ends with (README: exit codes)."""

from collections.abc import Sequence


class HvdError(Exception):
    """Something the user can act on, said in one line: what, where, why, and what to do next.

    `rows`, where one line is too little, are shown below it as a table.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: object = None, why: str = "", hint: str = "", rows: Sequence[Sequence[str]] = ()
    ) -> None:
        self.what, self.where, self.why, self.hint = what, where, why, hint
        self.rows = [[_one_line(cell) for cell in row] for row in rows]
        parts = [what if where is None else f"{what}: {where}"]
        if why:
            parts[0] += f" ({why})"
        if hint:
            parts.append(hint)
        super().__init__(_one_line("; ".join(parts)))


def _one_line(text: str) -> str:
    """`text` without line breaks and control codes, which names from a damaged file may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UsageError(HvdError):
    """A wrong option or config value."""

    exit_code = 2


class InputError(HvdError):
    """Missing or malformed input data."""

    exit_code = 3


class CorruptError(HvdError):
    """A stored artifact whose bytes are not the ones that were written."""

    exit_code = 4


class ResourceError(HvdError):
    """Out of disk, memory or device."""

    exit_code = 6


class CheckFailedError(HvdError):
    """A check that the user asked for did not pass."""

    exit_code = 7
