"""Where an artifact came from: versions, the code's own digest and the commit."""

import hashlib
import importlib.util
import platform
import subprocess
from functools import cache as memoise
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("hvdistill", "torch", "torchvision", "spconv-cu120", "spconv-cu126", "numpy", "zarr")


def provenance(module: str) -> dict[str, Any]:
    """Versions, git commit and source digest, for a manifest."""
    return {"versions": _versions(), "commit": _commit(), "code": code_digest(module)}


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
    """The commit of the checkout we run from, or None for an installed package."""
    here = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@memoise
def code_digest(module: str) -> str:
    """SHA-256 over our own source files that computing `module` may run: the stage's module and the library."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    library = Path(spec.origin).resolve().parent.parent / "hvd"
    files = [Path(spec.origin), *sorted(p for p in library.rglob("*.py") if "cli" not in p.parts)]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
