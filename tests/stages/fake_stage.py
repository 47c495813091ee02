"""A stage for tests: writes its config and inputs into a file, and counts its runs beside the store."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.work import Work
from hvd.config import Config
from hvd.errors import InputError
from stages.runtime import Runtime
from stages.specs import Stage

FAKE = Stage("fake", 1, "tests.stages.fake_stage")


class FakeConfig(Config):
    """`text` is the result; `secret` changes the key and not the bytes."""

    text: str
    secret: int = 0
    fail: bool = False


def run(config: FakeConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    with Path(os.environ["FAKE_LOG"]).open("a") as log:
        log.write(f"{config.text}\n")
    parents = {name: (path / "out.json").read_text() for name, path in inputs.items() if path.is_dir()}
    (work.folder / "out.json").write_text(json.dumps({"text": config.text, "inputs": parents}))
    if config.fail:
        raise InputError("asked to fail")
    return {"length": len(config.text)}
