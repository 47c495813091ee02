"""SemanticKITTI: sequences of 64-beam sweeps with a label for each point; its camera is not used."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.fingerprint import check_layout, point_files
from hvd.datasets.sample import CameraView, Sample, read_label_file, read_records, read_rgb
from hvd.datasets.splits import SEMANTICKITTI_PAPER, SEMANTICKITTI_PARAMETRIZE, Splits, present, splits_of

POINT_FIELDS = 4  # x, y, z, remission 0..1


@dataclass(frozen=True)
class SemanticKittiDataset:
    """An opened SemanticKITTI folder."""

    root: Path
    samples: tuple[Sample, ...]
    name: str = "semkitti"

    def read_points(self, sample: Sample) -> NDArray[np.float32]:
        """Points (N, 4): x, y, z in metres, LiDAR frame, and remission as recorded.

        Raises:
            InputError: missing, or its size is no multiple of the record's 16 bytes.
        """
        return read_records(sample.points_path, POINT_FIELDS)

    def read_labels(self, sample: Sample, num_points: int) -> NDArray[np.uint16]:
        """Raw class ids (N,).

        Raises:
            InputError: no labels, or another number of them than points.
        """
        return read_label_file(sample, num_points, "<u4").astype(np.uint16)  # the upper half numbers the instance

    def read_image(self, view: CameraView) -> NDArray[np.uint8]:
        """The image (H, W, 3), RGB; no sample of this data set names one."""
        return read_rgb(view)

    def splits(self, kind: str) -> Splits:
        """Sequences by split, those present: the folder's own splits.json, or else the official ones.

        Raises:
            InputError: a malformed splits.json.
        """
        scenes = {sample.scene for sample in self.samples}
        return present(splits_of(self.root, kind, official_splits), scenes)


def official_splits(kind: str) -> Splits:
    """All sequences by split: the benchmark's lists for `paper`; for `parametrize` its training part in two."""
    return dict(SEMANTICKITTI_PAPER if kind == "paper" else SEMANTICKITTI_PARAMETRIZE)


def open_semantickitti(root: Path) -> SemanticKittiDataset:
    """Open a folder that holds sequences/NN/velodyne; sensor files are read later.

    Raises:
        InputError: there is no such folder or no sweep in it.
    """
    check_layout(root, "semkitti", None)
    sequences = sorted(path for path in (root / "sequences").iterdir() if (path / "velodyne").is_dir())
    return SemanticKittiDataset(root, tuple(sample for folder in sequences for sample in _sequence(folder)))


def _sequence(folder: Path) -> list[Sample]:
    labels = folder / "labels"
    has_labels = labels.is_dir()
    return [
        Sample(
            token=f"{folder.name}/{path.stem}",
            scene=folder.name,
            points_path=path,
            labels_path=labels / f"{path.stem}.label" if has_labels else None,
            cameras=(),
        )
        for path in point_files(folder / "velodyne")
    ]
