"""Superpixels: SLIC segments (Achanta et al., TPAMI 2012) of every image at the network's input size."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import slic

from cache.work import Work
from hvd.datasets.prepared import Arrays, write_arrays
from hvd.pool import doing
from stages.parts import make_parts
from stages.prep_images import resized
from stages.runtime import Runtime
from stages.specs import SuperpixelsConfig


def run(config: SuperpixelsConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write one part after another."""
    images = Arrays(inputs["images"], "image")
    count = len(images)
    work.expected_bytes = count * images.item_shape[0] * config.height * config.width * 2

    def job(frames: range) -> Callable[[Path], None]:
        return partial(_make_part, inputs["images"], config, frames)

    make_parts(work.folder, job, count, runtime.workers, "superpixels")
    return {"frames": count}


def _make_part(images: Path, config: SuperpixelsConfig, frames: range, path: Path) -> None:
    write_arrays(path, "superpixel", _segments(Arrays(images, "image"), config, frames), {})


def _segments(images: Arrays, config: SuperpixelsConfig, frames: range) -> Iterator[NDArray[np.uint16]]:
    for row in frames:
        doing(f"frame {row}")
        yield np.stack([segment(resized(image, config.height, config.width), config) for image in images[row]])


def segment(image: NDArray[np.uint8], config: SuperpixelsConfig) -> NDArray[np.uint16]:
    """SLIC segments of an image (H, W, 3): (H, W), numbered from 0."""
    found = slic(image, n_segments=config.segments, compactness=config.compactness, sigma=config.sigma, start_label=0)
    segments: NDArray[np.uint16] = found.astype(np.uint16)
    return segments
