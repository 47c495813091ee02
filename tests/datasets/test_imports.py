"""Planning imports these modules: torch, spconv, the devkit and zarr must not come along."""

import subprocess
import sys

LIGHT = [
    *(f"hvd.geometry.{name}" for name in ("se3", "camera", "grid", "boxes", "rectangles")),
    *("hvd.datasets.kitti", "hvd.datasets.kitti_files", "hvd.metrics.detection"),
    *(f"hvd.datasets.{name}" for name in ("augment", "chunks", "fingerprint", "labels", "nuscenes", "prepared")),
    *(f"hvd.datasets.{name}" for name in ("sample", "semantickitti", "splits", "submission", "tables", "voxels")),
]
HEAVY = ["torch", "spconv", "nuscenes", "torchvision", "zarr", "cv2", "matplotlib", "sklearn"]


def test_light_modules_stay_light() -> None:
    program = f"import sys, {', '.join(LIGHT)}; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
