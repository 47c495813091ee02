"""`hvd doctor`: does this machine have what the toolkit needs? One line a check; exit code 7 if one fails."""

import os
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from cache.errors import readable_bytes
from hvd import log
from hvd.cli.options import DATA_SETS, DEFAULT_STORE, Json, Root, StorePath, Version, data_set_at, emit, find_source
from hvd.cli.tables import print_table
from hvd.datasets.fingerprint import has_labels
from hvd.errors import CheckFailedError, HvdError

if TYPE_CHECKING:
    import torch
    from packaging.specifiers import SpecifierSet

    from stages.plans import Source

_DISTRIBUTION = "hvdistill"
_WANTED_FREE_BYTES = 4 << 30  # the store of `hvd reproduce --recipe mini`, with room
_TOLERANCE = 1e-3  # relative; float32 sums in another order differ by 1e-6


class Check(NamedTuple):
    """What was looked at, and what was found; a note is worth knowing and no failure."""

    name: str
    state: Literal["ok", "note", "fail"]
    text: str


def register(app: typer.Typer) -> None:
    """Add `doctor` to `app`."""
    app.command()(doctor)


def doctor(
    root: Root = None,
    version: Version = None,
    store: StorePath = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Check package versions, a sparse convolution on each device, disk, teacher weights and data sets."""
    checks = [*packages(), *devices(), disk(store), teacher(), *data_sets(root, version)]
    if json_:
        emit([check._asdict() for check in checks])
    else:
        print_table(("check", "state", "found"), checks)
    failed = [check.name for check in checks if check.state == "fail"]
    if failed:
        raise CheckFailedError(f"{len(failed)} of {len(checks)} checks failed", why=", ".join(failed))
    log.info(f"all {len(checks)} checks passed")


def packages() -> Iterator[Check]:
    """Python and each package that the installed distribution requires here, against the versions it asks for."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        installed = metadata.distribution(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Check("packages", "fail", f"{_DISTRIBUTION} is not installed; run: pip install -e .")
        return
    python = SpecifierSet(installed.metadata["Requires-Python"] or "")
    yield _version_check("python", platform.python_version(), python)
    for text in installed.requires or ():
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            try:
                yield _version_check(needed.name, metadata.version(needed.name), needed.specifier)
            except metadata.PackageNotFoundError:
                yield Check(needed.name, "fail", f"not installed, needs {needed.specifier}")


def _version_check(name: str, found: str, wanted: "SpecifierSet") -> Check:
    if wanted.contains(found, prereleases=True):
        return Check(name, "ok", found)
    return Check(name, "fail", f"{found}, needs {wanted}")


def devices() -> Iterator[Check]:
    """A sparse convolution on the CPU and on every GPU."""
    import torch

    yield sparse_convolution(torch.device("cpu"))
    if not torch.cuda.is_available():
        yield Check("gpu", "note", "none: everything runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        yield sparse_convolution(torch.device("cuda", index))


def sparse_convolution(device: "torch.device") -> Check:
    """Whether a sparse convolution runs on `device` and agrees with a dense one."""
    name = f"sparse convolution on {device}"
    try:
        error = sparse_error(device)
    except (ImportError, OSError, RuntimeError) as reason:
        return Check(name, "fail", str(reason).partition("\n")[0])
    return Check(name, "ok" if error < _TOLERANCE else "fail", f"differs from a dense one by {error:.1g}")


def sparse_error(device: "torch.device") -> float:
    """Largest difference between a sparse convolution on `device` and a dense one in float64, relative to it."""
    import torch

    from hvd.models.sparse import SubmanifoldConv, sparse_tensor

    random = torch.Generator().manual_seed(0)
    size, channels = 12, 8
    places = (torch.rand(size, size, size, generator=random) < 0.2).nonzero()  # (V, 3)
    feature = torch.randn(len(places), channels, generator=random)
    conv = SubmanifoldConv(channels, channels, "doctor")
    weight = torch.randn(conv.weight.shape, generator=random)  # (out, 3, 3, 3, in)
    conv.load_state_dict({"weight": weight})

    dense = torch.zeros(channels, size, size, size, dtype=torch.float64)
    x, y, z = places.T
    dense[:, x, y, z] = feature.double().T
    expected = torch.conv3d(dense[None], weight.double().permute(0, 4, 1, 2, 3), padding=1)[0, :, x, y, z].T

    coords = torch.nn.functional.pad(places, (1, 0)).int()  # batch 0
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # as hvd.training.device says
    with torch.no_grad(), current:
        found = conv.to(device)(sparse_tensor(feature.to(device), coords.to(device), 1, (size, size, size)))
    return float((found.features.cpu() - expected).abs().max() / expected.abs().max())


def disk(store: Path) -> Check:
    """Whether the store can be written, and how much room there is."""
    from cache.errors import free_bytes

    path = store.absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Check("store", "fail", f"no permission to write in {existing}")
    free = free_bytes(path)
    text = f"{readable_bytes(free)} free at {path}"
    if free < _WANTED_FREE_BYTES:
        return Check("store", "fail", f"{text}, needs {readable_bytes(_WANTED_FREE_BYTES)}")
    return Check("store", "ok", text)


def teacher() -> Check:
    """The built-in teacher's weights, by their SHA-256."""
    from hvd.models.teacher_config import TeacherConfig, weights_digest

    config = TeacherConfig()
    try:
        return Check("built-in teacher", "ok", f"{config.name}, sha256 {weights_digest(config)[:12]}")
    except HvdError as error:
        return Check("built-in teacher", "fail", str(error))


def data_sets(root: Path | None, version: str | None) -> Iterator[Check]:
    """The layout of the data set at `root`, or of every data set that is configured."""
    if root is not None:
        yield data_set(data_set_at(root), root, version)
        return
    for name in DATA_SETS:
        yield data_set(name, None, version)


def data_set(name: str, root: Path | None, version: str | None) -> Check:
    """Whether a data set's root, as a command would find it, holds one, with the files that its key frames name."""
    try:
        source = find_source(name, root, version)
    except HvdError as error:
        return Check(f"{name} data", "fail", str(error))
    if source.root is None:
        return Check(f"{name} data", "note", "no root given: commands take the built-in world")
    labels = "" if has_labels(source.root, source.dataset, source.full_version) else "without labels"
    place = " ".join(filter(None, (str(source.root), source.full_version, labels)))
    try:
        files, missing = sensor_files(source)
    except HvdError as error:
        return Check(f"{name} data", "fail", str(error))
    if missing:
        lost = f"{len(missing)} of {files} sweeps and images are missing, the first: {missing[0]}"
        return Check(f"{name} data", "fail", f"{place}: {lost}; --skip-bad leaves their key frames out")
    return Check(f"{name} data", "ok", f"{place}, {files} sweeps and images")


def sensor_files(source: "Source") -> tuple[int, list[Path]]:
    """How many sweeps and images the key frames name, and those that are not there.

    Raises:
        InputError: a table, calibration or header that can't be read.
    """
    from stages.sources import open_dataset

    assert source.root is not None
    samples = open_dataset(source.dataset, source.root, source.full_version).samples
    paths = [path for sample in samples for path in (sample.points_path, *(view.path for view in sample.cameras))]
    return len(paths), [path for path in paths if not path.is_file()]
