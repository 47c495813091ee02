"""Opening a data set by name, and handing its readers to workers without all of its samples."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hvd.datasets.kitti import KittiDataset, open_kitti
from hvd.datasets.nuscenes import NuScenesDataset, open_nuscenes
from hvd.datasets.semantickitti import SemanticKittiDataset, open_semantickitti
from hvd.errors import InputError

AnyDataset = NuScenesDataset | SemanticKittiDataset | KittiDataset


def open_dataset(dataset: str, root: Path, version: str | None) -> AnyDataset:
    """The reader of `dataset` at `root`.

    Raises:
        InputError: a malformed data set, or one without samples.
    """
    opened = _open(dataset, root, version)
    if not opened.samples:
        raise InputError(f"no samples in {dataset}", where=root)
    return opened


def _open(dataset: str, root: Path, version: str | None) -> AnyDataset:
    if dataset == "nuscenes":
        return open_nuscenes(root, str(version))
    return open_kitti(root, version, one_size=True) if dataset == "kitti" else open_semantickitti(root)


def part_of(data: AnyDataset, frames: range) -> AnyDataset:
    """The same readers with the samples of `frames` alone: what a worker needs."""
    return replace(data, samples=data.samples[frames.start : frames.stop])


def only(data: AnyDataset, tokens: Iterable[str]) -> AnyDataset:
    """The same readers with the samples that `tokens` name alone, in their own order."""
    kept = frozenset(tokens)
    return replace(data, samples=tuple(sample for sample in data.samples if sample.token in kept))
