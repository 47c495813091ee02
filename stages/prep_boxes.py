"""Boxes: labels and calibrations in the benchmark's own files, each read once on the way in, and the images' sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.work import Work
from hvd import log
from hvd.datasets.fingerprint import KITTI_TEST, kitti_folder
from hvd.datasets.kitti import CAMERA, image_size
from hvd.datasets.kitti_files import DONT_CARE, read_calibration, read_labels
from hvd.datasets.prepared import Frames
from hvd.datasets.prepared_boxes import CALIBRATIONS, LABELS, write_sizes
from stages.runtime import Runtime
from stages.skipping import offering_to_skip
from stages.specs import BoxesConfig


def run(config: BoxesConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Copy the files of every prepared frame; one without a label file is for those who ask for no labels.

    Raises:
        InputError: the first file that is malformed, or calibration that is missing, naming file and line.
    """
    source = kitti_folder(inputs["data"], config.version)
    for name in (LABELS, CALIBRATIONS):
        (work.folder / name).mkdir(exist_ok=True)
    objects = labelled = 0
    sizes = {}
    for token in log.track(Frames(inputs["frames"]).tokens, f"boxes of {config.dataset}"):
        label, calibration = (source / name / f"{token}.txt" for name in (LABELS, CALIBRATIONS))
        if label.is_file():
            objects += sum(name != DONT_CARE for name in read_labels(label).types)
            labelled += 1
            _copy(label, work.folder)
        read_calibration(calibration)
        _copy(calibration, work.folder)
        with offering_to_skip():
            sizes[token] = image_size(source / CAMERA / f"{token}.png")
    write_sizes(work.folder, sizes)
    if labelled < len(sizes) and config.version != KITTI_TEST:
        first = next(token for token in sizes if not (work.folder / LABELS / f"{token}.txt").is_file())
        what = f"{len(sizes) - labelled} of {len(sizes)} frames have no label file"
        log.warn(f"{what}; the first: {source / LABELS / f'{first}.txt'}")
    return {"frames": len(sizes), "labelled": labelled, "objects": objects}


def _copy(path: Path, folder: Path) -> None:
    (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
