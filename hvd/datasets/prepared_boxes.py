"""The boxes of a prepared data set, in KITTI's own files: its evaluation program can be pointed at them.

label_2/NNNNNN.txt    as it was; none of a frame without labels
calib/NNNNNN.txt      as it was
images.json           {frame: [width, height]} of each frame's whole image, in pixels
"""

import json
from collections.abc import Mapping
from pathlib import Path

from hvd.datasets.kitti_files import Calibration, Objects, read_calibration, read_labels
from hvd.errors import CorruptError

LABELS, CALIBRATIONS, SIZES = "label_2", "calib", "images.json"


class PreparedBoxes:
    """Labels, calibrations and image sizes by frame."""

    def __init__(self, folder: Path) -> None:
        """Open the folder.

        Raises:
            CorruptError: the list of image sizes is missing or none.
        """
        self.folder = folder
        self.sizes = _read_sizes(folder / SIZES)

    def has_labels(self, token: str) -> bool:
        """Whether the frame was labelled, perhaps with no object."""
        return (self.folder / LABELS / f"{token}.txt").is_file()

    def objects(self, token: str) -> Objects:
        """The labelled objects of a frame, DontCare areas among them; raises InputError as `read_labels`."""
        return read_labels(self.folder / LABELS / f"{token}.txt")

    def calibration(self, token: str) -> Calibration:
        """How the sensors of a frame lie to each other; raises InputError as `read_calibration`."""
        return read_calibration(self.folder / CALIBRATIONS / f"{token}.txt")


def _read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    try:
        sizes = json.loads(path.read_text(encoding="utf8"))
        return {str(token): (int(width), int(height)) for token, (width, height) in sizes.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CorruptError("cannot read the image sizes", where=path, why=str(error)) from None


def write_sizes(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Store the images' sizes beside labels and calibrations."""
    (folder / SIZES).write_text(json.dumps(sizes, indent=1, sort_keys=True), encoding="utf8")
