"""The `hvd` command: assembles the commands and turns every error into one line and an exit code."""

import errno
import os
import resource
import signal
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from hvd import log
from hvd.cli import doctor, draw, inspect, report, reproduce, run, status, storage, table, verify, world
from hvd.errors import CorruptError, HvdError
from hvd.training.interrupt import Interrupted

app = typer.Typer(
    name="hvd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (run, reproduce, table, report, world, draw, status, inspect, verify, storage, doctor):
    module.register(app)
_state = {"debug": False, "stopping": False}
_OPEN_FILES = 65536


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"hvd {metadata.version('hvdistill')}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error, for a bug report.")] = False,
) -> None:
    """Image-to-LiDAR self-supervised distillation with hybrid views: prep, pretrain, finetune, eval, export."""
    _state["debug"] = debug


def main() -> None:
    """Entry point: exit codes as the README lists them."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  as long as the process
    log.configure()
    _allow_open_files()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and shells without job control ask for
            signal.signal(number, _stop)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # what it can't take is an error of this command, not of the interpreter's end
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.TyperException as error:  # a wrong option or argument
        text = error.format_message()
        if text:  # none where only the help was printed
            log.error(text)
        code = 2
    except typer.Abort:
        code = 130
    except (BrokenPipeError, SystemExit):  # the reader of our output left; Typer makes the second of the first
        code = 0
    except BaseException as error:
        code = _report(error)
    _end_stdout()
    sys.exit(code or 0)


def _allow_open_files() -> None:
    """As many as the system lets us: gc is kept from each artifact in use by an open lock, and a study has hundreds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop(signum: int, frame: object) -> None:
    """The first signal unwinds, so that locks and half-written files go; the second ends the process at once."""
    if _state["stopping"]:
        os._exit(128 + signum)
    _state["stopping"] = True
    raise Interrupted(signum)


def _end_stdout() -> None:
    """Drop what stdout can't take, or the interpreter tries again at its end and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: BaseException) -> int:
    if _state["debug"]:
        traceback.print_exception(error)
    code = exit_code(error)
    if code != 1:
        text = _system_error(error) if isinstance(error, OSError) else str(error) or "out of memory"
        log.error(text + _remedy(error))
        log.table(error.rows if isinstance(error, HvdError) else [])
        return code
    kind, text = type(error).__name__, str(error)
    log.error(f"a bug of ours: {kind}: {text.splitlines()[0] if text else ''}; report: {_write_report(error)}")
    return 1


def _system_error(error: OSError) -> str:
    return f"{error.strerror}: {error.filename or 'standard output'}"


def _remedy(error: BaseException) -> str:
    """What to do about a store that can't be written or read; our other errors say it themselves."""
    from cache import errors

    if isinstance(error, errors.NoSpace):
        return "; free some (hvd gc), or name a folder on another disk with --store"
    if isinstance(error, errors.ReadOnly):
        return "; name a folder that you may write to with --store"
    if isinstance(error, errors.Corrupt):
        return "; run: hvd gc --damaged --yes (a pinned one: hvd unpin it first), then this command again"
    if isinstance(error, CorruptError) and not error.hint:
        return "; run: hvd verify --repair, then this command again"
    return ""


def exit_code(error: BaseException) -> int:
    """The exit code of an error: the user's (2, 3, 4, ...), the machine's (6), a signal's, or 1 for ours."""
    if isinstance(error, HvdError):
        return error.exit_code
    if isinstance(error, MemoryError):
        return 6
    if isinstance(error, Interrupted):
        return 128 + error.signum
    return _store_code(error)


def _store_code(error: BaseException) -> int:
    from cache import errors

    codes = (
        (errors.Busy, 5),
        (errors.StoreIO, 6),
        (errors.Newer, 3),
        (errors.Corrupt, 4),
        (errors.BadArchive, 3),
        (errors.NotFound, 3),
        (errors.Ambiguous, 2),
    )
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # of an option
        return 2
    by_kind = next((code for kind, code in codes if isinstance(error, kind)), 1)
    return 6 if isinstance(error, OSError) and errors.of_the_machine(error) else by_kind


def _write_report(error: BaseException) -> str:
    """Versions, command, trace and the last log lines, for a bug report; returns the file's name."""
    from stages.provenance import provenance

    try:
        handle, name = tempfile.mkstemp(prefix="hvd-report-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf8", errors="backslashreplace") as file:
            file.write(f"command: {sys.argv}\n{provenance('stages.runner')}\n\n")
            traceback.print_exception(error, file=file)
            file.write("\nlast log lines:\n" + "\n".join(log.recent()) + "\n")
    except OSError as failed:
        return f"none, it can't be written ({failed.strerror})"
    return name
