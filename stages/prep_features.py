"""Teacher features: the frozen network's feature maps, computed once per image."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache.work import Work
from hvd import log
from hvd.datasets.prepared import Arrays, write_arrays
from hvd.models.teacher import Teacher, build_teacher
from hvd.pool import doing
from hvd.training import seeding
from hvd.training.device import pick_device
from stages.parts import make_parts
from stages.prep_images import resized
from stages.runtime import Runtime
from stages.specs import FeaturesConfig


def run(config: FeaturesConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write one part after another; on the CPU in worker processes, because the network scales badly with threads."""
    images = Arrays(inputs["images"], "image")
    device = pick_device(runtime.device)
    work.expected_bytes = _bytes(config, len(images), images.item_shape[0])
    log.info(f"features will take up to {work.expected_bytes / 1e6:,.0f} MB")

    def job(frames: range) -> Callable[[Path], None]:
        return partial(_make_part, config, inputs["images"], str(device), frames)

    workers = runtime.workers if device.type == "cpu" else 0
    make_parts(work.folder, job, len(images), workers, f"features of {config.teacher.name}")
    return {"frames": len(images)}


def _bytes(config: FeaturesConfig, frames: int, cameras: int) -> int:
    shape = config.teacher.shape
    cells = (config.height // shape.stride) * (config.width // shape.stride)
    return frames * cameras * shape.channels * cells * 2


def _make_part(config: FeaturesConfig, images: Path, device: str, frames: range, path: Path) -> None:
    write_arrays(path, "feature", _features(config, Arrays(images, "image"), torch.device(device), frames), {})


def _features(
    config: FeaturesConfig, images: Arrays, device: torch.device, frames: range
) -> Iterator[NDArray[np.float16]]:
    """(K, C, h, w) half precision, frame by frame."""
    teacher = _teacher(config, device)
    for row in frames:
        doing(f"frame {row}")
        pixels = np.stack([resized(image, config.height, config.width) for image in images[row]])
        batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
        yield teacher(batch).half().cpu().numpy()


@cache
def _teacher(config: FeaturesConfig, device: torch.device) -> Teacher:
    """The network of this process, built once for all its parts."""
    seeding.start(0, config.threads)
    return build_teacher(config.teacher).to(device)
