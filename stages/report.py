"""The study's results as one self-contained HTML page, or as Markdown with its pictures beside it.

Every value as a dot, label-fraction curves, classes, ranges, and which artifact each value comes from.
"""

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hvd.metrics.statistics import interval
from stages.results import Values, by_cell, markdown
from stages.study import COLUMNS, HVDISTILL, IPV, RANDOM, ROWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stages.similarity import Similarity

Cells = Sequence[Mapping[str, Any]]

_COMPARED = (RANDOM, IPV, HVDISTILL)
_DATA = {"nuScenes-like": "nuscenes", "64-beam": "semkitti", "KITTI-like": "kitti"}  # as figures name data sets
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;font-size:13px}td,th{border:1px solid #ccc;padding:.25em .5em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}code{font-size:12px}"
)


def page(cells: Cells, about: Mapping[str, Any], maps: Sequence["Similarity"] = ()) -> str:
    """The whole page; pictures are inside."""
    values = by_cell(cells)
    parts = [_html_of(markdown(cells, about))]
    for title, figure in figures(cells, values, maps):
        parts += [f"<h2>{html.escape(title)}</h2>", _image(figure, title)]
    parts += ["<h2>Where each value comes from</h2>", _provenance_table(cells)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>hvd: results</title><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def write_markdown(out: Path, cells: Cells, about: Mapping[str, Any], maps: Sequence["Similarity"] = ()) -> None:
    """Write the page as Markdown, and its figures as `<name of the page>-1.png` and so on."""
    lines = [markdown(cells, about)]
    for number, (title, figure) in enumerate(figures(cells, by_cell(cells), maps), 1):
        picture = out.with_name(f"{out.stem}-{number}.png")
        picture.write_bytes(png(figure))
        lines += [f"## {title}", "", f"![{title}]({picture.name})", ""]
    lines += ["## Where each value comes from", "", "| row | column | seed | value | artifact | protocol |"]
    lines += ["|---|---|--:|--:|---|---|"]
    lines += ["| " + " | ".join(map(str, _provenance(cell))) + " |" for cell in cells]
    out.write_text("\n".join(lines) + "\n", encoding="utf8")


def figures(cells: Cells, values: Values, maps: Sequence["Similarity"]) -> "list[tuple[str, Figure]]":
    """Titles and figures, those that the values suffice for."""
    made = [("All rows, every seed a dot", bars(values))]
    for data in _DATA:
        if sum(any(column in found for found in values.values()) for column in _shares(data).values()) > 1:
            made.append((f"By labelled share, {data}", curves(values, data)))
    probe = COLUMNS[0].name
    if any(cell["column"] == probe and cell["row"] in _COMPARED for cell in cells):
        made.append((f"IoU by class, {probe}", _grouped(cells, probe, "per_class")))
        made.append((f"mIoU by range, {probe}", _grouped(cells, probe, "by_range")))
    made += [(f"What a point resembles, frame {one.token}", similarity_maps(one)) for one in maps]
    return made


def bars(values: Values) -> "Figure":
    """One group of bars a column: the mean, and a dot for every seed."""
    columns = [c.name for c in COLUMNS if any(c.name in found for found in values.values())]
    rows = [row for row in ROWS if row in values]
    figure, axes = _axes(max(7.0, 1.9 * len(columns)))
    width = 0.8 / len(rows)
    for i, row in enumerate(rows):
        at = {column: j + (i - (len(rows) - 1) / 2) * width for j, column in enumerate(columns)}
        found = {column: list(values[row][column].values()) for column in columns if column in values[row]}
        axes.bar([at[c] for c in found], [fmean(v) for v in found.values()], width * 0.92, label=row, alpha=0.75)
        dots = [(at[c], value) for c, every in found.items() for value in every]
        axes.plot(*zip(*dots, strict=True), ".", color="black", markersize=4)
    axes.set_xticks(range(len(columns)), [column.replace(" ", "\n", 1) for column in columns])
    _finish(axes, "mIoU (KITTI-like: mAP), %")
    return figure


def curves(values: Values, data: str) -> "Figure":
    """mIoU over the labelled share, with 95 % intervals over seeds."""
    shares = _shares(data)
    figure, axes = _axes(7.0)
    for row in (name for name in ROWS if name in values):
        found = {share: values[row][column] for share, column in shares.items() if column in values[row]}
        if not found:
            continue
        middle = [interval(list(every.values())) for every in found.values()]
        widths = [0.0 if point.num < 2 else point.half_width for point in middle]
        axes.errorbar(list(found), [p.mean for p in middle], widths, marker="o", capsize=3, label=row)
    axes.set_xscale("log")
    axes.set_xticks(list(shares), [f"{share}%" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel("labelled part of the training data")
    _finish(axes, "mIoU (KITTI-like: mAP), %")
    return figure


def _shares(data: str) -> dict[int, str]:
    """The fine-tuned columns of a data set by their labelled share in per cent."""
    return {int(c.labels.removesuffix("%")): c.name for c in COLUMNS if c.dataset == _DATA[data] and not c.probe}


def _grouped(cells: Cells, column: str, field: str) -> "Figure":
    """Bars of the rows that are compared, grouped by the names in a field of the cells; means over seeds."""
    groups = {row: [c[field] for c in cells if (c["row"], c["column"]) == (row, column)] for row in _COMPARED}
    groups = {row: found for row, found in groups.items() if found}
    names = list(dict.fromkeys(name for found in groups.values() for one in found for name in one))
    figure, axes = _axes(max(7.0, 0.75 * len(names)))
    width = 0.8 / max(1, len(groups))
    for i, (row, found) in enumerate(groups.items()):
        means = [_mean_of(one.get(name) for one in found) for name in names]
        axes.bar([j + (i - (len(groups) - 1) / 2) * width for j in range(len(names))], means, width, label=row)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=8)
    _finish(axes, "mIoU, %" if field == "by_range" else "IoU, %")
    return figure


def _mean_of(values: Iterable[float | None]) -> float:
    """Of those that are there; NaN, which draws no bar, without any."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else math.nan


def similarity_maps(found: "Similarity") -> "Figure":
    """The image, its pixels' cosine with the point, and the ground cells' cosine with the point's cell."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.6, 1.6, 1.2))
    width, height = found.size
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    left.imshow(found.image, extent=extent)
    left.set_title(f"a point at {found.depth_m:.1f} m")
    shown = {"cmap": "viridis", "vmin": -1.0, "vmax": 1.0}
    if found.pixels is not None:
        middle.imshow(found.pixels, extent=extent, **shown)
        middle.set_title("cosine with the image's pixels")
    if found.cells is not None:
        reach = found.reach_m
        # x runs to the right and y upward.
        drawn = right.imshow(found.cells.T, extent=(-reach, reach, -reach, reach), origin="lower", **shown)
        figure.colorbar(drawn, ax=right)
        right.set_title("and of the ground cells")
    for axes, place in ((left, found.uv), (middle, found.uv), (right, found.place)):
        axes.plot(*place, "o", markersize=9, markerfacecolor="none", markeredgecolor="red")
    return figure


def _axes(width: float) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    return figure, figure.subplots()


def _finish(axes: Any, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, ncols=2)


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG file, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _image(figure: "Figure", title: str) -> str:
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(png(figure)).decode()}">'


def _provenance_table(cells: Cells) -> str:
    rows = ["<tr><td>" + "<td>".join(html.escape(str(text)) for text in _provenance(cell)) for cell in cells]
    return "<table><tr><th>row<th>column<th>seed<th>value<th>artifact<th>protocol" + "".join(rows) + "</table>"


def _provenance(cell: Mapping[str, Any]) -> tuple[object, ...]:
    return cell["row"], cell["column"], cell["seed"], f"{cell['value']:.2f}", cell["key"][:16], cell["protocol"]


def _html_of(text: str) -> str:
    """Our own Markdown, headings, paragraphs and tables, as HTML."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("# "):
            blocks.append(f"<h1>{_inline(lines[0][2:])}</h1>")
        elif lines[0].startswith("|"):
            cells = [[_inline(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
            head = "".join(f"<th>{cell}" for cell in cells[0])
            body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in cells[2:])
            blocks.append(f"<table><tr>{head}{body}</table>")
        else:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(blocks)


def _inline(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", bold)
