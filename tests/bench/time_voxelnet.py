"""CPU time of the detector's encoder on one KITTI sweep, one thread: `python -m tests.bench.time_voxelnet FRAME.bin`.

CPU seconds, so that other work on the machine counts little; the median of three passes after one that warms up. There
is no plain implementation to compare with, so `make bench` leaves this out.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hvd.datasets.range_voxels import collate_range, voxelize_range
from hvd.models.detector import CentreDetector
from hvd.models.detector_config import KITTI_DETECTOR, SMALL_DETECTOR, DetectorConfig

REPEATS = 3


def measure(config: DetectorConfig, points: np.ndarray) -> dict[str, float]:
    """Seconds of each part, and the number of voxels; points (N, 4) float32."""
    torch.manual_seed(0)
    detector = CentreDetector(config)
    encoder = detector.backbone
    voxels = voxelize_range(points, config.voxelnet.grid)
    batch = collate_range([voxels], config.voxelnet.low)
    inputs = torch.from_numpy(batch.feature), torch.from_numpy(batch.coords), 1

    def forward() -> None:
        with torch.no_grad():
            encoder.encode(*inputs).bev()

    def both() -> None:
        encoder.encode(*inputs).bev().square().mean().backward()

    def student() -> None:
        encoder(*inputs).square().mean().backward()

    def whole() -> None:
        with torch.no_grad():
            detector(*inputs)

    works = {"forward": forward, "forward + backward": both, "as a student, both": student, "detector, forward": whole}
    row: dict[str, float] = {"voxels": len(batch.coords)}
    row["voxelize"] = _seconds(lambda: voxelize_range(points, config.voxelnet.grid))
    return row | {name: _seconds(work) for name, work in works.items()}


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return round(statistics.median(times[1:]), 4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sweep = np.fromfile(Path(sys.argv[1]), np.float32).reshape(-1, 4)
    for name, config in {"small": SMALL_DETECTOR, "KITTI size": KITTI_DETECTOR}.items():
        sys.stdout.write(json.dumps({name: measure(config, sweep)}, indent=1) + "\n")
        sys.stdout.flush()
