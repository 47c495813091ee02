"""Checkpoints of a running training: written whole or not at all, verified by a hash in the name, the last two kept."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from cache import disk
from cache.failpoint import failpoint
from hvd import log

_KEEP = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `state` as the checkpoint after `step` steps; older ones than the last two go.

    Raises:
        OSError: the disk is full or fails; the earlier checkpoints are untouched.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:16]
    disk.write_whole(folder / f"step-{step:08d}-{digest}.pt", content, "checkpoint")
    for old in _newest_first(folder)[_KEEP:]:
        failpoint("checkpoint.remove")
        old.unlink()


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint whose bytes are intact, as (steps done, state); None if there is none."""
    for path in _newest_first(folder):
        content = path.read_bytes()
        _, step, digest = path.stem.split("-")
        if hashlib.sha256(content).hexdigest()[:16] != digest:
            log.warn(f"checkpoint {path.name} is damaged: taking the one before")
            continue
        return int(step), torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return None


def discard_from(folder: Path, step: int) -> None:
    """Delete the checkpoints after `step` steps and later: what they hold has turned out to be bad."""
    for path in _newest_first(folder):
        if int(path.stem.split("-")[1]) >= step:
            path.unlink()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)
