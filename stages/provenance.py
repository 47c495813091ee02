"""Where an artifact came from: versions, the code's own digest and the commit."""

import hashlib
import importlib.util
import os
import platform
import subprocess
from functools import cache as memoise
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("hvdistill", "torch", "torchvision", "spconv-cu120", "spconv-cu126", "numpy", "zarr")
_OURS = ("cache", "hvd", "stages")


def provenance(module: str) -> dict[str, Any]:
    """Versions, machine, git commit and source digest, for a manifest."""
    return {"versions": _versions(), "machine": machine(), "commit": _commit(), "code": code_digest(module)}


def machine() -> str:
    """What we run on."""
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


@memoise
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # one of the two spconv wheels is always absent
    return found


@memoise
def _commit() -> str | None:
    """The commit of the checkout we run from, "-dirty" if its files differ; None for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if _git(here, "rev-parse", "--show-toplevel") != str(here):
        return None  # installed, perhaps inside a checkout of something else
    return _git(here, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def _git(folder: Path, *command: str) -> str | None:
    """What git prints; None where it fails, or is not there."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *command],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@memoise
def code_digest(module: str) -> str:
    """SHA-256 (hex) over our own source files, the command line aside, and `module` if it is none of them.

    Taken once for each module: called when it has just been imported, it is of the code that runs.
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    here = Path(__file__).resolve().parent.parent
    own = {path for name in _OURS for path in (here / name).rglob("*.py") if "cli" not in path.relative_to(here).parts}
    digest = hashlib.sha256()
    for path in sorted({*own, Path(spec.origin).resolve()}):
        digest.update(path.read_bytes())
    return digest.hexdigest()
