"""The `hvd` command: assembles the commands and turns every error into one line and an exit code."""

import os
import signal
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from hvd import log
from hvd.cli import doctor, draw, inspect, report, reproduce, run, table, world
from hvd.errors import HvdError
from hvd.training.interrupt import Interrupted

app = typer.Typer(
    name="hvd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (run, reproduce, table, report, world, draw, inspect, doctor):
    module.register(app)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Image-to-LiDAR self-supervised distillation with hybrid views: prep, pretrain, finetune, eval, export."""
    if version:
        sys.stdout.write(f"hvd {metadata.version('hvdistill')}\n")
        raise typer.Exit


def main() -> None:
    """Entry point: exit codes as the README lists them."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  as long as the process
    log.configure()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _stop)
    try:
        code = app(standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.TyperException as error:  # a wrong option or argument
        text = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        if text:  # none where only the help was printed
            log.error(text)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        log.error("interrupted; finished parts and checkpoints are kept: run the same command to go on")
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's own flush complains
        code = 0
    except SystemExit as stop:  # Typer's own, where the reader of a help page left
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException as error:
        code = _report(error)
    sys.exit(code or 0)


def _stop(signum: int, frame: object) -> None:
    raise Interrupted(signum)


def _report(error: BaseException) -> int:
    if os.environ.get("HVD_DEBUG"):
        traceback.print_exception(error)
    code = exit_code(error)
    if code != 1:
        log.error(str(error))
        return code
    path = _write_report(error)
    log.error(
        f"a bug of ours: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; report: {path}"
    )
    return 1


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
    return next((code for kind, code in codes if isinstance(error, kind)), 1)


def _write_report(error: BaseException) -> Path:
    """Versions, command and trace, for a bug report."""
    from stages.provenance import provenance

    handle, name = tempfile.mkstemp(prefix="hvd-report-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        file.write(f"command: {sys.argv}\n{provenance('stages.runner')}\n\n")
        traceback.print_exception(error, file=file)
    return Path(name)
