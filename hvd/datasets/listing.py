"""The key frames of a data set without their contents: enough to say what a stage will cost. Torch-free and quick."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hvd.datasets import kitti, nuscenes, semantickitti
from hvd.datasets.fingerprint import Kind, check_layout
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
        points = _first_sweep(root / "samples" / nuscenes.LIDAR) // (4 * nuscenes.POINT_FIELDS)
        return Listing(scenes, lambda kind: splits_of(root, kind, nuscenes.official_splits), cameras, points)
    if kind == "kitti":
        tokens = tuple(sorted(path.stem for path in root.glob("training/velodyne/[!.]*.bin")))
        points = _first_sweep(root / "training" / "velodyne") // (4 * kitti.POINT_FIELDS)
        return Listing(tokens, lambda kind: kitti.split_lists(root, tokens, kind), 1, points)
    folders = sorted(root.glob("sequences/*/velodyne"))
    scenes = tuple(folder.parent.name for folder in folders for _ in folder.glob("[!.]*.bin"))
    points = _first_sweep(folders[0]) // (4 * semantickitti.POINT_FIELDS)
    return Listing(scenes, lambda kind: splits_of(root, kind, semantickitti.official_splits), 0, points)


def _first_sweep(folder: Path) -> int:
    """Bytes of one point file; 0 where there is none."""
    first = next(folder.glob("[!.]*.bin"), None)
    return first.stat().st_size if first else 0
