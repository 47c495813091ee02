"""Leaving out key frames that can't be used (`--skip-bad`): the sweep or one of the images can't be read."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hvd import log
from hvd.datasets.sample import Sample
from hvd.errors import InputError
from hvd.pool import doing, run_all
from stages.parts import part_ranges
from stages.sources import AnyDataset, only, part_of

FILE = "skipped.json"  # there only if a frame was skipped: {token: what is wrong}


@contextmanager
def offering_to_skip() -> Iterator[None]:
    """Let the error about a sweep or an image that can't be read say what can be done."""
    try:
        yield
    except InputError as error:
        hint = error.hint or "mend it, or leave such key frames out with --skip-bad"
        raise InputError(error.what, where=error.where, why=error.why, hint=hint) from error


def bad_samples(data: AnyDataset, workers: int) -> dict[str, InputError]:
    """The samples with a sweep or an image that can't be read, by token; `workers` as `run_all` takes them."""
    parts = [part_of(data, frames) for frames in part_ranges(len(data.samples))]
    found = run_all(_bad_in, parts, workers, f"checking {data.name}")
    return {token: error for bad in found for token, error in bad.items()}


def _bad_in(part: AnyDataset) -> dict[str, InputError]:
    errors = {sample.token: _fault(part, sample) for sample in part.samples}
    return {token: error for token, error in errors.items() if error is not None}


def _fault(data: AnyDataset, sample: Sample) -> InputError | None:
    doing(sample.token)
    try:
        data.read_points(sample)
        for view in sample.cameras:
            data.read_image(view)
    except InputError as error:
        return error
    return None


def without(data: AnyDataset, bad: Mapping[str, InputError], folder: Path) -> AnyDataset:
    """`data` without the samples that are bad; says how many, and lists them in `folder`.

    Raises:
        InputError: none is left.
    """
    first = next(iter(bad.values()))
    if len(bad) == len(data.samples):
        raise InputError(f"all {len(bad)} key frames are bad", where=data.root, why=str(first))
    log.warn(f"skipped {len(bad)} of {len(data.samples)} key frames, listed in {FILE}; the first: {first}")
    # Relative paths: where the data set lies must not change the artifact's bytes.
    listed = {token: f"{error.what}: {Path(str(error.where)).relative_to(data.root)}" for token, error in bad.items()}
    (folder / FILE).write_text(json.dumps(listed, indent=1), encoding="utf8")
    return only(data, (sample.token for sample in data.samples if sample.token not in bad))
