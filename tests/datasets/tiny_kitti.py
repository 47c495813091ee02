"""KITTI object data of a few points, to be damaged by tests."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((60, 40), (64, 38))  # of even and of odd frames: KITTI's images differ too
POINTS = 80

CALIBRATION = {
    "P2": [50.0, 0, 30, 4.0, 0, 50, 20, -0.2, 0, 0, 1, 0.005],
    "R0_rect": [0.9998, 0.02, 0, -0.02, 0.9998, 0, 0, 0, 1],
    "Tr_velo_to_cam": [0.0, -1, 0, 0.01, 0, 0, -1, -0.07, 1, 0, 0, -0.3],
}
CAR = "Car 0.00 0 -1.50 10.00 12.00 30.00 36.00 1.50 1.80 4.00 -2.00 1.60 12.00 -1.57"
DONT_CARE = "DontCare -1 -1 -10 1.00 2.00 5.00 6.00 -1 -1 -1 -1000 -1000 -1000 -10"


def write_kitti(root: Path, frames: int = 4) -> Path:
    """training/ with velodyne, calib, image_2 and label_2."""
    rng = np.random.default_rng(0)
    folder = root / "training"
    for name in ("velodyne", "calib", "image_2", "label_2"):
        (folder / name).mkdir(parents=True)
    for number in range(frames):
        token = f"{number:06d}"
        points = rng.uniform([-20, -20, -2, 0], [30, 20, 1, 1], (POINTS, 4)).astype("<f4")
        points.tofile(folder / "velodyne" / f"{token}.bin")
        text = "".join(f"{key}: {' '.join(map(str, values))}\n" for key, values in CALIBRATION.items())
        (folder / "calib" / f"{token}.txt").write_text(text + "\n")
        width, height = SIZES[number % 2]
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "image_2" / f"{token}.png")
        (folder / "label_2" / f"{token}.txt").write_text(f"{CAR}\n{DONT_CARE}\n")
    return root
