"""Stop at the end of a step: the first signal asks, the second ends the process at once."""

import os
import signal
import threading
from types import FrameType, TracebackType


class Interrupted(BaseException):
    """A signal asked to stop and the state is saved; the command line exits with 128 + `signum`."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}; what is finished is kept: run the same command to go on"


class StopRequest:
    """A context in which SIGINT, SIGTERM and SIGUSR1 set `signum` instead of ending the process."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._on_signal) for s in self._SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum

    def raise_if_asked(self) -> None:
        """Raise `Interrupted` once a signal has come.

        Raises:
            Interrupted: with the signal's number.
        """
        if self.signum is not None:
            raise Interrupted(self.signum)
