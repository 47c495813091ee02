"""`hvd report`: the study's results as a page with figures, from the file that `hvd table` wrote."""

from pathlib import Path
from typing import Annotated

import typer

from hvd import log
from hvd.errors import InputError, UsageError


def register(app: typer.Typer) -> None:
    """Add `report` to `app`."""
    app.command()(report)


def report(
    results: Annotated[Path, typer.Option(help="Folder that hvd table wrote.")] = Path("docs/results"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write: .html, or .md with pictures.")] = Path(
        "report.html"
    ),
) -> None:
    """Write the results of `hvd table` as one self-contained HTML page, or as Markdown and PNG."""
    from stages.report import page, write_markdown
    from stages.results import load

    if out.suffix not in (".html", ".md"):
        raise UsageError("unknown kind of page", where=out, hint="valid: .html, .md")
    document = load(results)
    if not document["cells"]:
        raise InputError("no results", where=results, hint="run: hvd table")
    if out.suffix == ".md":
        write_markdown(out, document["cells"], document)
    else:
        out.write_text(page(document["cells"], document), encoding="utf8")
    log.info(f"{out}: {len(document['cells'])} values")
