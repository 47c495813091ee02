"""Frames: points, projections with ego motion, correspondences and sparse depth, without a single label."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.work import Work
from hvd import log
from hvd.datasets.prepared import Frame, Frames, write_frames
from hvd.datasets.sample import CameraView, Sample
from hvd.datasets.splits import SPLIT_KINDS
from hvd.errors import InputError
from hvd.geometry.camera import Pairs, pair_points, resize, warp
from hvd.pool import doing
from stages.parts import make_parts
from stages.runtime import Runtime
from stages.selection import write_splits
from stages.skipping import bad_samples, offering_to_skip, without
from stages.sources import AnyDataset, open_dataset, part_of
from stages.specs import FramesConfig


def run(config: FramesConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Write one part after another."""
    data = open_dataset(config.dataset, inputs["data"], config.version)
    skipped = bad_samples(data, runtime.workers) if config.skip_bad else {}
    if skipped:
        data = without(data, skipped, work.folder)
    attributes = {
        "dataset": config.dataset,
        "version": config.version,
        "cameras": [view.name for view in data.samples[0].cameras],
        "image_size": image_size(data.samples),
        "built_in_world": (inputs["data"] / "world.json").is_file(),
    }
    depth_size = (config.depth_height, config.depth_width)

    sweeps = [sample.points_path for sample in data.samples]
    # Points, pairs and depth together, about; a sweep that is missing is named by who reads it.
    work.expected_bytes = 2 * sum(path.stat().st_size for path in sweeps if path.is_file())

    def job(frames: range) -> Callable[[Path], None]:
        return partial(_make_part, part_of(data, frames), attributes, depth_size)

    make_parts(work.folder, job, len(data.samples), runtime.workers, f"frames of {config.dataset}")
    write_splits(work.folder, {kind: data.splits(kind) for kind in SPLIT_KINDS})
    frames = Frames(work.folder)
    warn_of_empty(frames)
    odd = count_odd(frames)
    if odd["points_not_finite"]:
        log.warn(f"{odd['points_not_finite']} points have a value that is not finite: they take no part")
    return {
        "frames": len(frames),
        "scenes": len(set(frames.scenes)),
        "points": int(frames.num_points.sum()),
        "pairs": int(frames.num_pairs.sum()),
        "skipped": len(skipped),
        **odd,
    }


def warn_of_empty(frames: Frames) -> None:
    """Say which sweeps hold no point: an empty file is what a broken download leaves."""
    empty = [token for token, count in zip(frames.tokens, frames.num_points, strict=True) if count == 0]
    if empty:
        log.warn(f"{len(empty)} of {len(frames)} sweeps hold no point; the first: {empty[0]}")


def count_odd(frames: Frames) -> dict[str, int]:
    """Points with a value that is not finite, sweeps without points, and frames of which no camera sees a point."""
    has_cameras = bool(frames.attributes["cameras"])
    return {
        "points_not_finite": sum(
            int((~np.isfinite(frames.points(row)).all(1)).sum())
            for row in log.track(range(len(frames)), "count odd points")
        ),
        "empty_sweeps": int((frames.num_points == 0).sum()),
        "none_in_view": int((frames.num_pairs == 0).sum()) if has_cameras else 0,
    }


def image_size(samples: tuple[Sample, ...]) -> list[int]:
    """[width, height] of all images in pixels; [0, 0] without cameras.

    Raises:
        InputError: images differ in size.
    """
    sizes = {(view.width, view.height) for sample in samples for view in sample.cameras}
    if len(sizes) > 1:
        raise InputError("images differ in size", why=", ".join(f"{w}x{h}" for w, h in sorted(sizes)))
    return list(sizes.pop()) if sizes else [0, 0]


def _make_part(part: AnyDataset, attributes: dict[str, Any], depth_size: tuple[int, int], path: Path) -> None:
    with offering_to_skip():
        frames = [prepare(part, sample, depth_size) for sample in part.samples]
    write_frames(path, frames, attributes)


def prepare(data: AnyDataset, sample: Sample, depth_size: tuple[int, int]) -> Frame:
    """One frame: its points, and where each camera sees them. Points with a value that is not finite pair with none."""
    doing(sample.token)
    points = data.read_points(sample)
    sound = np.isfinite(points).all(axis=1)
    visible = points[:, :3] if sound.all() else np.where(sound[:, None], points[:, :3], np.float32(np.nan))
    views = sample.cameras
    camera_from_lidar = _stack([view.camera_from_lidar for view in views], 4)
    intrinsics = _stack([view.intrinsics for view in views], 3)
    width, height = (views[0].width, views[0].height) if views else (0, 0)
    pairs = pair_points(visible, camera_from_lidar, intrinsics, width, height)
    return Frame(
        token=sample.token,
        scene=sample.scene,
        point=points,
        pairs=pairs,
        intrinsics=intrinsics.astype(np.float32),
        camera_from_lidar=camera_from_lidar,
        ego_from_camera=_stack([view.ego_from_camera for view in views], 4),
        sparse_depth=sparse_depth(pairs, views, depth_size),
    )


def _stack(matrices: list[NDArray[np.float64]], size: int) -> NDArray[np.float64]:
    return np.stack(matrices) if matrices else np.empty((0, size, size))


def sparse_depth(pairs: Pairs, views: tuple[CameraView, ...], size: tuple[int, int]) -> NDArray[np.float32]:
    """The nearest depth in each cell of a (height, width) map per camera: (K, h, w) metres, 0 = none."""
    height, width = size
    nearest = np.full((len(views), height, width), np.inf, np.float32)
    if views:
        to_map = resize(width / views[0].width, height / views[0].height)
        column, row = np.rint(warp(to_map, pairs.uv.astype(np.float64))).astype(np.int64).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = pairs.camera[inside].astype(np.int64), row[inside], column[inside]
        np.minimum.at(nearest, place, pairs.depth[inside])
    return np.where(np.isfinite(nearest), nearest, np.float32(0))
