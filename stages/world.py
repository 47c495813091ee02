"""The built-in world as a stage: a data set in its sensor's own format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.work import Work
from hvd.world.build import about_bytes, write_world
from hvd.world.config import WorldConfig
from stages.runtime import Runtime


def run(config: WorldConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write the world, and world.json, which says that this is no recording."""
    work.expected_bytes = about_bytes(config)
    write_world(config, work.folder, work.scratch / "drives", runtime.workers)  # they outlive a killed publication
    (work.folder / "world.json").write_text(json.dumps(config.resolved(), indent=1), encoding="utf8")
    return {"scenes": config.train_scenes + config.val_scenes}
