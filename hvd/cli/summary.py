"""What `hvd ls` says of an artifact, to tell it from the others of its stage."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache.artifact import Artifact

_SCORES = {"eval": ("mIoU", "miou"), "eval-detection": ("mAP", "map")}


def summary(item: "Artifact") -> str:
    """Views, labels, schedule, learning rate and seed of a training, and what it began from; an evaluation's score."""
    made_from = {parent["name"]: parent["key"][:8] for parent in item.parents}
    if item.stage in _SCORES:
        name, field = _SCORES[item.stage]
        value = item.details.get("metrics", {}).get(field)
        return f"{'no' if value is None else format(value, '.1f')} {name} of {made_from.get('model', '?')}"
    if item.stage.startswith("export"):
        return f"{item.key_inputs['config'].get('format', 'features')} of {made_from.get('student', 'a file')}"
    path = item.path / "protocol.json"
    if not path.is_file():
        return ""
    try:
        protocol = json.loads(path.read_text(encoding="utf8"))
        return _trained(protocol, item.key_inputs["config"], made_from.get("student"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # unreadable, or of another shape
        return "damaged: see hvd verify"


def _trained(protocol: dict[str, Any], config: dict[str, Any], student: str | None) -> str:
    schedule = f"{protocol['length']}, lr {config['optimizer']['lr']:g}, seed {protocol['seed']}"
    if "views" in protocol:
        network = [protocol["network"]] if "network" in protocol else []
        return ", ".join([protocol["views"], *network, schedule])
    probe = ["linear probe"] if protocol.get("linear_probe") else []
    begun = student or protocol["student"]  # where no artifact: random, or the name of a file
    return ", ".join([*probe, f"{protocol['labels']} of {config['dataset']}", schedule, f"from {begun}"])
