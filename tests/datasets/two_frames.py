"""Two frames made by hand, seen by two cameras, each with values of its own: what mixes frames or columns shows."""

from pathlib import Path

import numpy as np

from hvd.datasets.prepared import Frame, part_path, write_arrays, write_frames
from hvd.geometry.camera import Pairs

POINTS, CAMERAS, WIDTH, HEIGHT = 4000, 2, 32, 16
INTENSITY = (0.25, 0.75)  # of all points of a frame
FIRST = 10  # superpixel and grey of the first frame's images; the second's are one more


def frame(number: int) -> Frame:
    """One of the two. Every point is paired, by turns with the cameras."""
    rng = np.random.default_rng(number)
    xyz = rng.uniform(-9, 9, (POINTS, 3)) * [1, 1, 0.1]
    point = np.column_stack([xyz, np.full(POINTS, INTENSITY[number])]).astype(np.float32)
    uv = rng.uniform(2, [WIDTH - 2, HEIGHT - 2], (POINTS, 2)).astype(np.float32)
    place = np.arange(POINTS)
    pairs = Pairs(place.astype(np.int32), (place % CAMERAS).astype(np.uint8), uv, np.full(POINTS, 9, np.float32))
    poses = np.stack([np.eye(4)] * CAMERAS)
    ego_from_camera = poses.copy()
    ego_from_camera[:, 0, 3] = 100 + number  # the vehicle is not where the LiDAR is
    return Frame(
        token=f"t{number}",
        scene=f"s{number}",
        point=point,
        pairs=pairs,
        intrinsics=np.stack([np.eye(3, dtype=np.float32)] * CAMERAS),
        camera_from_lidar=poses,
        ego_from_camera=ego_from_camera,
        sparse_depth=np.zeros((CAMERAS, 2, 2), np.float32),
    )


def write_two_frames(folder: Path) -> None:
    """Frames, superpixels and images, as prepared."""
    attributes = {"image_size": [WIDTH, HEIGHT], "cameras": ["left", "right"]}
    write_frames(part_path(folder / "frames", 0), [frame(0), frame(1)], attributes)
    for name, key, shape in (("superpixels", "superpixel", ()), ("images", "image", (3,))):
        kind = np.uint16 if name == "superpixels" else np.uint8
        arrays = [np.full((CAMERAS, HEIGHT, WIDTH, *shape), FIRST + number, kind) for number in (0, 1)]
        write_arrays(part_path(folder / name, 0), key, arrays, {})
