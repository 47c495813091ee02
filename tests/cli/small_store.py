"""A store of small artifacts, and the command line run against it in this process."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from cache.artifact import Artifact
from cache.key import key_of
from cache.store import Store
from hvd.cli.main import app, exit_code

Write = Callable[[Path], None]


def publish(
    store: Store,
    stage: str,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Artifact | str] | None = None,
    write: Write | None = None,
    **details: Any,
) -> Artifact:
    """Publish an artifact; an input is another artifact, or the digest of something outside the store."""
    inputs = inputs or {}
    parents = {name: item for name, item in inputs.items() if isinstance(item, Artifact)}
    digests = {name: item.digest if isinstance(item, Artifact) else item for name, item in inputs.items()}
    key_inputs = {"schema": 1, "stage": stage, "version": 1, "config": dict(config or {}), "inputs": digests}
    named = [{"name": name, "stage": p.stage, "key": p.key, "digest": p.digest} for name, p in parents.items()]
    with store.claim(stage, key_of(key_inputs)) as work:
        if write is None:
            (work.folder / "data.bin").write_bytes(key_inputs["stage"].encode() * 100)
        else:
            write(work.folder)
        return work.publish(key_inputs, named, {"metrics": {}, "recipe": "mini", "data": {}, "sources": {}, **details})


def run(store: Store, *arguments: object) -> Result:
    """`hvd ARGUMENTS --store STORE`."""
    return CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)])


def code(result: Result) -> int:
    """The exit code that `main` would end with."""
    unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
    return exit_code(result.exception) if unexpected and result.exception else result.exit_code


def run_json(store: Store, *arguments: object) -> Any:
    """The object that `hvd ARGUMENTS --json` prints."""
    result = run(store, *arguments, "--json")
    assert code(result) == 0, result.output
    return json.loads(result.stdout)


def damage(item: Artifact) -> Path:
    """Flip one bit of its file."""
    path = item.path / "data.bin"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    return path
