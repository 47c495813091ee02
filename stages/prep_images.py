"""Images: every camera image decoded once and stored at the working size."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.work import Work
from hvd.datasets.augment import resize_only, warp_image
from hvd.datasets.prepared import Frames, write_arrays
from hvd.errors import InputError
from hvd.pool import doing
from stages.parts import make_parts
from stages.runtime import Runtime
from stages.skipping import offering_to_skip
from stages.sources import AnyDataset, only, open_dataset, part_of
from stages.specs import ImagesConfig


def run(config: ImagesConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write one part after another."""
    data = open_dataset(config.dataset, inputs["data"], config.version)
    if "frames" in inputs:
        data = only(data, Frames(inputs["frames"]).tokens)
    if not data.samples[0].cameras:
        raise InputError(f"{config.dataset} has no cameras", where=inputs["data"])

    cameras = len(data.samples[0].cameras)
    work.expected_bytes = len(data.samples) * cameras * config.height * config.width * 3

    def job(frames: range) -> Callable[[Path], None]:
        return partial(_make_part, part_of(data, frames), config)

    make_parts(work.folder, job, len(data.samples), runtime.workers, f"images of {config.dataset}")
    return {"frames": len(data.samples)}


def _make_part(part: AnyDataset, config: ImagesConfig, path: Path) -> None:
    with offering_to_skip():
        write_arrays(path, "image", _images(part, config), {})


def _images(data: AnyDataset, config: ImagesConfig) -> Iterator[NDArray[np.uint8]]:
    """(K, H, W, 3) at the working size, frame by frame."""
    for sample in data.samples:
        doing(sample.token)
        yield np.stack([resized(data.read_image(view), config.height, config.width) for view in sample.cameras])


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) at another size; itself where the size is right."""
    if image.shape[:2] == (height, width):
        return image
    return warp_image(image, resize_only(image.shape[1], image.shape[0], width, height), width, height)
