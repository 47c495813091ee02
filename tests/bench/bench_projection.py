"""Pairing the recorded frame with six cameras, against the devkit: `python -m tests.bench.bench_projection`.

The plain way is the devkit's `map_pointcloud_to_image`, once for each camera: it reads the sweep and opens the image
anew, and moves all points through four poses. Neither way decodes an image; tables are loaded beforehand. The two take
turns, so that other load on the machine hits both. Memory is how far the peak resident size (VmHWM) of a process of its
own rises at work.
"""

import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hvd.datasets.nuscenes import CAMERAS, open_nuscenes
from hvd.geometry.camera import pair_points

REPEATS = 30
ROOT = Path(os.environ.get("HVD_REAL_DATA", "../shared/data")) / "nuscenes"
VERSION = "v1.0-mini"

Work = Callable[[], object]


def run() -> list[dict[str, object]]:
    """Seconds (median of 30) and MiB for one frame, and plain / ours as `ratio`.

    Raises:
        InputError: the recorded frame is not there; HVD_REAL_DATA names another place.
    """
    plain_s, ours_s = _in_child(_seconds, plain_projection, our_projection)
    return [
        {
            "name": "projection of 34,688 points into six cameras",
            "plain_s": plain_s,
            "ours_s": ours_s,
            "ratio": plain_s / ours_s,
            "plain_mib": _in_child(_peak_mib, plain_projection),
            "ours_mib": _in_child(_peak_mib, our_projection),
        }
    ]


def plain_projection() -> Work:
    """The devkit's way, ready to run."""
    from nuscenes import NuScenes  # noqa: TID251  what is compared with

    open_nuscenes(ROOT, VERSION)  # names what is missing
    devkit = NuScenes(VERSION, str(ROOT), verbose=False)
    data = devkit.sample[0]["data"]
    project = devkit.explorer.map_pointcloud_to_image
    return lambda: [project(data["LIDAR_TOP"], data[name]) for name in CAMERAS]


def our_projection() -> Work:
    """Our way, ready to run: read the sweep, pair it with all cameras."""
    data = open_nuscenes(ROOT, VERSION)
    sample = data.samples[0]

    def work() -> object:
        points = data.read_points(sample)
        camera_from_lidar = np.stack([view.camera_from_lidar for view in sample.cameras])
        intrinsics = np.stack([view.intrinsics for view in sample.cameras])
        return pair_points(points[:, :3], camera_from_lidar, intrinsics, 1600, 900)

    return work


def _in_child(measure: Callable[..., Any], *prepare: Callable[[], Work]) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a fork would inherit this process's peak
        return pool.apply(measure, prepare)


def _seconds(*prepare: Callable[[], Work]) -> list[float]:
    """Median seconds of each."""
    works = [make() for make in prepare]
    return [float(median) for median in np.median([[_time(work) for work in works] for _ in range(REPEATS)], axis=0)]


def _time(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_mib(prepare: Callable[[], Work]) -> float:
    """MiB by which the work raises the process's peak."""
    work = prepare()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of getting ready
    before = _peak_kib()
    work()
    return (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "Linux reports a peak"
    return int(found[1])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=2) + "\n")
