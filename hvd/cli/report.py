"""`hvd report`: the study's results as one HTML page, from the file that `hvd table` wrote."""

from pathlib import Path
from typing import Annotated

import typer

from hvd import log
from hvd.errors import InputError


def register(app: typer.Typer) -> None:
    """Add `report` to `app`."""
    app.command()(report)


def report(
    results: Annotated[Path, typer.Option(help="Folder that hvd table wrote.")] = Path("docs/results"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.")] = Path("report.html"),
) -> None:
    """Write the results of `hvd table` as one self-contained HTML page."""
    from stages.report import page
    from stages.results import load

    document = load(results)
    if not document["cells"]:
        raise InputError("no results", where=results, hint="run: hvd table")
    out.write_text(page(document["cells"], document), encoding="utf8")
    log.info(f"{out}: {len(document['cells'])} values")
