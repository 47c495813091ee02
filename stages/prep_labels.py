"""Labels: raw class ids in point order; the class map is applied on reading."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.work import Work
from hvd import log
from hvd.datasets.labels import LABEL_MAPS
from hvd.datasets.prepared import Frames, write_labels
from hvd.datasets.sample import Sample
from hvd.errors import InputError
from hvd.pool import doing
from stages.parts import make_parts
from stages.runtime import Runtime
from stages.sources import AnyDataset, only, open_dataset, part_of
from stages.specs import LabelsConfig


def run(config: LabelsConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write one part after another, each label file checked against the frame's number of points.

    Sweeps of sequences without labels, as the test sequences of SemanticKITTI, get none: `SegmentationData` says so to
    whoever asks for them.

    Raises:
        InputError: a label file is missing or wrong, or there is none at all.
    """
    frames = Frames(inputs["frames"])
    data = only(open_dataset(config.dataset, inputs["data"], config.version), frames.tokens)
    if tuple(sample.token for sample in data.samples) != frames.tokens:
        raise InputError(
            "the data set and its prepared frames differ", where=inputs["data"], hint=f"run: hvd prep {config.dataset}"
        )

    lacking = [sample.token for sample in data.samples if sample.labels_path is None]
    if len(lacking) == len(data.samples):
        raise InputError(
            "no sweep has labels", where=inputs["data"], hint="without labels: hvd pretrain, and hvd eval --split test"
        )
    if lacking:
        log.info(f"{len(lacking)} of {len(data.samples)} sweeps have no labels; the first: {lacking[0]}")
    work.expected_bytes = 2 * int(frames.num_points.sum())

    def job(rows: range) -> Callable[[Path], None]:
        return partial(_make_part, part_of(data, rows), frames.num_points[rows.start : rows.stop])

    make_parts(work.folder, job, len(frames), runtime.workers, f"labels of {config.dataset}")
    return {"frames": len(frames)}


def _make_part(part: AnyDataset, num_points: NDArray[np.int64], path: Path) -> None:
    write_labels(path, [checked(part, *item) for item in zip(part.samples, num_points, strict=True)])


def checked(data: AnyDataset, sample: Sample, num_points: int) -> NDArray[np.uint16]:
    """A sample's raw labels, all of ids that the benchmark defines; empty where its sequence has none."""
    doing(sample.token)
    if sample.labels_path is None:
        return np.empty(0, np.uint16)
    raw = data.read_labels(sample, int(num_points))
    try:
        LABEL_MAPS[data.name].map(raw)
    except InputError as error:
        raise InputError(error.what, where=sample.labels_path) from None
    return raw
