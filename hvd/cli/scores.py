"""What `hvd eval` prints on stdout: the figures of each class."""

import json
from typing import TYPE_CHECKING, Any

from hvd.cli.tables import print_table

if TYPE_CHECKING:
    from cache.artifact import Artifact

_MEASURES = {"3d": "3D", "bev": "BEV", "2d": "2D", "aos": "orientation"}
_DIFFICULTIES = ("easy", "moderate", "hard")


def print_scores(evaluation: "Artifact") -> None:
    """IoU of each class, or on kitti its average precision by measure and difficulty, in percent; what was scored."""
    metrics = json.loads((evaluation.path / "metrics.json").read_text(encoding="utf8"))
    if not metrics.get("per_class") and not metrics.get("ap"):
        return
    if evaluation.stage == "eval":
        rows = [(name, _percent(found["iou"]), found["points"]) for name, found in metrics["per_class"].items()]
        print_table(("class", "IoU, %", "points"), [*rows, ("mean", _percent(metrics["miou"]), "")])
    else:
        print_table(("class", "AP, %", *_DIFFICULTIES, "objects"), _precisions(metrics))


def _precisions(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    """Without a figure where no object counts."""
    found, objects = metrics["ap"], metrics["objects"]
    rows = []
    for name in dict.fromkeys(place.split("/")[1] for place in found):
        counts = [objects[name][level] for level in _DIFFICULTIES]
        for measure, title in _MEASURES.items():
            if f"{measure}/{name}/moderate" in found:
                values = (found[f"{measure}/{name}/{level}"] for level in _DIFFICULTIES)
                shown = [_percent(value if count else None) for value, count in zip(values, counts, strict=True)]
                rows.append((name, title, *shown, ", ".join(map(str, counts))))
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
