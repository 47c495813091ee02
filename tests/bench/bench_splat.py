"""Splat against the materialised frustum, at the paper's size: `python -m tests.bench.bench_splat`.

The plain way is lift-splat's: one feature row for each (pixel, depth bin), then a sum of rows into cells. Each
measurement runs in a process of its own; memory is how far its resident size rises at most (VmHWM, reset before).
"""

import json
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from hvd.geometry.grid import GridSpec
from hvd.models.splat import frustum_cells, splat

CAMERAS, HEIGHT, WIDTH, STRIDE, CHANNELS = 6, 56, 104, 4, 64
DEPTHS_M = torch.arange(118) * 0.5 + 1.25
GRID = GridSpec((-51.2, -51.2, -5.0), (51.2, 51.2, 3.0), (0.4, 0.4, 8.0))
THREADS, REPEATS = 2, 3

Inputs = tuple[Tensor, Tensor, Tensor]


def run() -> list[dict[str, object]]:
    """Forward alone, and forward + backward: seconds (median of 3) and MiB, and plain / ours as `ratio`."""
    rows: list[dict[str, object]] = []
    for name, backward in (("splat forward", False), ("splat forward + backward", True)):
        plain_s, plain_mib = _in_child(plain_splat, backward)
        ours_s, ours_mib = _in_child(our_splat, backward)
        rows.append(
            {
                "name": name,
                "plain_s": plain_s,
                "ours_s": ours_s,
                "ratio": plain_s / ours_s,
                "plain_mib": plain_mib,
                "ours_mib": ours_mib,
            }
        )
    return rows


def inputs() -> Inputs:
    """Context, depth probabilities and cells of six cameras that look all round from 1.5 m above the ground."""
    draw = torch.Generator().manual_seed(0)
    context = torch.randn(CAMERAS, CHANNELS, HEIGHT, WIDTH, generator=draw)
    weight = torch.randn(CAMERAS, len(DEPTHS_M), HEIGHT, WIDTH, generator=draw).softmax(1)
    yaw = torch.arange(CAMERAS) * (2 * torch.pi / CAMERAS)
    lidar_from_camera = torch.zeros(CAMERAS, 4, 4)
    lidar_from_camera[:, 0, 0], lidar_from_camera[:, 1, 0] = yaw.sin(), -yaw.cos()  # image x: to the right
    lidar_from_camera[:, 2, 1] = -1  # image y: down
    lidar_from_camera[:, 0, 2], lidar_from_camera[:, 1, 2] = yaw.cos(), yaw.sin()  # depth: outwards
    lidar_from_camera[:, 2, 3], lidar_from_camera[:, 3, 3] = -0.3, 1
    intrinsics = torch.tensor([[330.0, 0, 207.5], [0, 330, 111.5], [0, 0, 1]]).expand(CAMERAS, 3, 3)
    no_image_aug, no_point_aug = torch.eye(3).expand(CAMERAS, 3, 3), torch.eye(4).expand(CAMERAS, 4, 4)
    cell = frustum_cells(
        GRID, DEPTHS_M, HEIGHT, WIDTH, STRIDE, lidar_from_camera, intrinsics, no_image_aug, no_point_aug
    )
    return context, weight, cell


def our_splat(context: Tensor, weight: Tensor, cell: Tensor) -> Tensor:
    """The toolkit's."""
    return splat(context, weight, cell, torch.zeros(CAMERAS, dtype=torch.long), 1, GRID.num_cells).feature[0]


def plain_splat(context: Tensor, weight: Tensor, cell: Tensor) -> Tensor:
    """Lift-splat's: the frustum of features, its rows inside the grid, their sum per cell."""
    context_rows = context.permute(0, 2, 3, 1)[..., None, :]  # (N, h, w, 1, C)
    weights = weight.permute(0, 2, 3, 1)[..., None]  # (N, h, w, D, 1)
    frustum = (context_rows * weights).flatten(0, 3)
    inside = cell.view(-1) >= 0
    out = frustum.new_zeros(GRID.num_cells, CHANNELS)
    return out.index_add(0, cell.view(-1)[inside].long(), frustum[inside])


def _in_child(method: Callable[[Tensor, Tensor, Tensor], Tensor], backward: bool) -> tuple[float, float]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # raises if the child is killed
        return pool.submit(_measure, method, backward).result()


def _measure(method: Callable[[Tensor, Tensor, Tensor], Tensor], backward: bool) -> tuple[float, float]:
    torch.set_num_threads(THREADS)
    context, weight, cell = inputs()
    context.requires_grad_(backward), weight.requires_grad_(backward)
    before = _memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, from the present size
    times = []
    for _ in range(REPEATS):
        context.grad = weight.grad = None
        start = time.perf_counter()
        out = method(context, weight, cell)
        if backward:
            out.backward(out.detach())
        times.append(time.perf_counter() - start)
        del out
    return statistics.median(times), _memory_mib("VmHWM") - before


def _memory_mib(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
