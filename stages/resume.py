"""Whether unfinished work may be gone on with: parts that other data or other code has made don't mix with new ones."""

from typing import Any

from cache.work import Work
from hvd import log
from stages.specs import Stage

_UNKNOWN = "unknown"  # what began the work left no note: an older version, or `unpack`


def take_up(work: Work, stage: Stage, code: str, data: dict[str, str]) -> list[str]:
    """Clear what other data or other code began, and note what goes on; a training keeps its checkpoints.

    Args:
        work: claimed and prepared.
        stage: that it is of.
        code: digest of the code that goes on.
        data: digest of each data set's files as they are now.

    Returns:
        The digests of other code that a training went through before, oldest first.
    """
    codes: list[str] = []
    if not work.is_empty():
        before = work.noted() or {"codes": [_UNKNOWN], "data": data}
        codes = _codes(work, stage, before, code, data)
    work.note({"codes": [*codes, code], "data": data})
    return codes


def _codes(work: Work, stage: Stage, before: dict[str, Any], code: str, data: dict[str, str]) -> list[str]:
    """The other code whose work stays; none where it is cleared, or where all is as it was."""
    name = f"{stage.name} {work.key[:8]}"
    codes: list[str] = before["codes"]
    if before["data"] != data:
        return _cleared(work, name, "data")
    if codes[-1] == code:
        return codes[:-1]
    if not stage.trains:
        return _cleared(work, name, "code")
    log.warn(f"{name}: the code changed since its checkpoint was made; its manifest will say so")
    return codes


def _cleared(work: Work, name: str, what: str) -> list[str]:
    log.info(f"{name}: the {what} changed since an unfinished run; beginning anew")
    work.clear()
    return []
