"""Fixtures for all tests."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def restored_generators() -> Iterator[None]:
    """Put every global random generator back; torch is not imported for it."""
    torch = sys.modules.get("torch")
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch_state = torch.get_rng_state() if torch else None
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    if torch and torch_state is not None:
        torch.set_rng_state(torch_state)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data(name)`: the folder of a recorded data set, or a skipped test that says why."""
    root = Path(os.environ.get("HVD_REAL_DATA", REPOSITORY.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no recorded data at {root / name}; set HVD_REAL_DATA")
        return root / name

    return folder
