"""The key frames of a data set without their contents: enough to say what a stage will cost. Torch-free and quick."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hvd.datasets import kitti, nuscenes, semantickitti
from hvd.datasets.fingerprint import KITTI_TEST, Kind, check_layout, kitti_folder, point_files
from hvd.datasets.splits import OTHER_SPLIT, Splits, splits_of
from hvd.errors import InputError


@dataclass(frozen=True)
class Listing:
    """What a data set holds.

    Attributes:
        scenes: the scene of each key frame.
        splits: scene names by split, for a kind of splits; some may not be present.
        cameras: how many.
        points: of the first sweep, which stands for all.
    """

    scenes: tuple[str, ...]
    splits: Callable[[str], Splits]
    cameras: int
    points: int

    def rows(self, kind: str, split: str) -> list[int]:
        """The frames of a split, or of "all".

        Raises:
            InputError: there is none.
        """
        chosen = set(self.scenes) if split == "all" else set(self.splits(kind).get(split, ()))
        rows = [row for row, scene in enumerate(self.scenes) if scene in chosen]
        if not rows:
            raise InputError(f"split {split} holds no frame", hint=OTHER_SPLIT)
        return rows


def list_frames(root: Path, kind: Kind, version: str | None) -> Listing:
    """List a data set.

    Raises:
        InputError: its layout or a table is wrong.
    """
    check_layout(root, kind, version)
    if kind == "nuscenes":
        scenes = nuscenes.frame_scenes(root, str(version))
        cameras = sum((root / "samples" / name).is_dir() for name in nuscenes.CAMERAS)
        points = _first_size(point_files(root / "samples" / nuscenes.LIDAR)) // (4 * nuscenes.POINT_FIELDS)
        return Listing(scenes, lambda kind: splits_of(root, kind, nuscenes.official_splits), cameras, points)
    if kind == "kitti":
        sweeps = point_files(kitti_folder(root, version) / "velodyne")
        tokens = tuple(path.stem for path in sweeps)
        points = _first_size(sweeps) // (4 * kitti.POINT_FIELDS)
        if version == KITTI_TEST:
            return Listing(tokens, lambda kind: kitti.all_test(tokens), 1, points)
        return Listing(tokens, lambda kind: kitti.split_lists(root, tokens, kind), 1, points)
    sweeps = [path for folder in sorted(root.glob("sequences/*/velodyne")) for path in point_files(folder)]
    scenes = tuple(path.parent.parent.name for path in sweeps)
    points = _first_size(sweeps) // (4 * semantickitti.POINT_FIELDS)
    return Listing(scenes, lambda kind: splits_of(root, kind, semantickitti.official_splits), 0, points)


def _first_size(files: list[Path]) -> int:
    """Bytes of the first file; 0 where there is none."""
    return files[0].stat().st_size if files else 0
