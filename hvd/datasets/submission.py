"""Prediction files in each benchmark's own layout.

nuScenes-lidarseg (devkit, eval/lidarseg/README.md): lidarseg/SPLIT/TOKEN_lidarseg.bin, one uint8 a point, 1 .. 16, and
SPLIT/submission.json. SemanticKITTI (semantic-kitti-api): sequences/NN/predictions/NNNNNN.label, one uint32 raw id a
point.
"""

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_DTYPES = {"nuscenes": "<u1", "semkitti": "<u4"}

# What the scored network is fed; images guide the pre-training alone.
_NUSCENES_META = {
    "use_camera": False,
    "use_lidar": True,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}


class PredictionWriter:
    """Writes one sample after another below a folder."""

    def __init__(self, folder: Path, dataset: str, split: str) -> None:
        """`dataset` is nuscenes or semkitti; `split` names a folder in nuScenes' layout."""
        self.folder, self.dataset, self.split = folder, dataset, split

    def path(self, token: str) -> Path:
        """Where the predictions for a sample belong."""
        if self.dataset == "nuscenes":
            return self.folder / "lidarseg" / self.split / f"{token}_lidarseg.bin"
        sequence, frame = token.split("/")
        return self.folder / "sequences" / sequence / "predictions" / f"{frame}.label"

    def add(self, token: str, ids: NDArray[Any]) -> None:
        """Write one sample's predictions.

        Args:
            token: the sample's.
            ids: (N,) submission ids (`LabelMap.inverse` of training ids), one for every point of the sweep.
        """
        path = self.path(token)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ids.astype(_DTYPES[self.dataset]).tobytes())  # `tofile` drops an error's number

    def close(self) -> None:
        """Write what nuScenes asks about the method; SemanticKITTI asks nothing."""
        if self.dataset != "nuscenes":
            return
        path = self.folder / self.split / "submission.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"meta": _NUSCENES_META}, indent=2) + "\n", encoding="utf8")
