"""`hvd report`: the study's results as a page with figures, from the file that `hvd table` wrote."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log
from hvd.cli.options import DEFAULT_STORE, StorePath, check_file
from hvd.errors import InputError

if TYPE_CHECKING:
    from cache.store import Store
    from stages.similarity import Similarity


def register(app: typer.Typer) -> None:
    """Add `report` to `app`."""
    app.command()(report)


def report(
    results: Annotated[Path, typer.Option(help="Folder that hvd table wrote.")] = Path("docs/results"),
    store: StorePath = DEFAULT_STORE,
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write: .html, or .md with pictures.")] = Path(
        "report.html"
    ),
) -> None:
    """Write the results of `hvd table` as one self-contained HTML page, or as Markdown and PNG.

    With the students in the store, also what their points resemble: pixels of the image and cells of the ground.
    """
    from cache.store import Store
    from stages.report import page, write_markdown
    from stages.results import load

    check_file(out, "page", (".html", ".md"))
    document = load(results)
    if not document["cells"]:
        raise InputError("no results", where=results, hint=f"run: hvd table --out {shlex.quote(str(results))}")
    maps = similarity_maps(Store(store), document["cells"])
    if out.suffix.lower() == ".md":
        write_markdown(out, document["cells"], document, maps)
    else:
        out.write_text(page(document["cells"], document, maps), encoding="utf8")
    log.info(f"{out}: {len(document['cells'])} values")


def similarity_maps(store: "Store", cells: Sequence[Mapping[str, Any]]) -> "list[Similarity]":
    """Maps of the first student with both views that the cells name, for the first, the middle and the last frame.

    They are left out, with a word, where the store lacks the student or what it was trained on.
    """
    from stages.similarity import frames_behind, similarity, student_behind
    from stages.study import HVDISTILL

    found = (student_behind(store, cell["key"]) for cell in cells if cell["row"] == HVDISTILL)
    student = next((item for item in found if item), None)
    if student is None:
        log.info(f"no student behind the row {HVDISTILL} in {store.root}: similarity maps are left out")
        return []
    try:
        count = frames_behind(store, student)
        rows = sorted({0, count // 2, count - 1})
        return [similarity(store, student, row, 0) for row in log.track(rows, "similarity maps")]
    except InputError as error:
        log.warn(f"similarity maps are left out: {error}")
        return []
