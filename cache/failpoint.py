"""Named places where a test makes the process fail: before each write, flush and rename of the store.

`HVD_FAILPOINT=name:n:action` acts at the n-th pass of `name` (1 is the first; `*` stands for any name). Actions: `kill`
(SIGKILL to this process), `enospc`, `eio` (OSError), `sleep` or `sleep=SECONDS`. Unset, a pass costs one comparison.
"""

import errno
import itertools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

VARIABLE = "HVD_FAILPOINT"
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What to do, and at which pass of which place."""

    name: str
    turn: int
    action: str
    seconds: float = 1.0
    turns: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def passed(self, name: str) -> None:
        """Count a pass through `name` and act if it is the one."""
        if self.name in (name, "*") and next(self.turns) == self.turn:
            self._act(name)

    def _act(self, name: str) -> None:
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "sleep":
            time.sleep(self.seconds)
        else:
            code = _ERRORS[self.action]
            raise OSError(code, f"{os.strerror(code)} at failpoint {name}")


def parse(text: str) -> Failure:
    """The failure that `text` ("name:n:action") asks for.

    Raises:
        ValueError: another form, or an unknown action.
    """
    name, turn, action = text.split(":")
    action, _, seconds = action.partition("=")
    if action not in (*_ERRORS, "kill", "sleep"):
        raise ValueError(f"{VARIABLE}: unknown action {action!r}")
    return Failure(name=name, turn=int(turn), action=action, seconds=float(seconds or 1))


_armed: Failure | None = parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def failpoint(name: str) -> None:
    """Mark a place where a test may make the process fail."""
    if _armed is not None:
        _armed.passed(name)
