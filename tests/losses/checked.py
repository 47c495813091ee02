"""Modules whose shape annotations are enforced on every call."""

import importlib
import sys
from types import ModuleType

from jaxtyping import install_import_hook


def import_checked(name: str) -> ModuleType:
    """A fresh copy of module `name` that checks its annotations; others keep the module they have."""
    original = sys.modules.pop(name, None)
    try:
        with install_import_hook(name, "beartype.beartype"):
            return importlib.import_module(name)
    finally:
        if original is not None:
            sys.modules[name] = original
