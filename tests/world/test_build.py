"""The bytes depend on the config alone; a stopped run goes on where it stopped."""

import hashlib
import json
from pathlib import Path

import pytest

from hvd.world import nuscenes_writer
from hvd.world.build import write_world
from hvd.world.config import WorldConfig, smoke_world
from hvd.world.drives import splits


def _digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write(config: WorldConfig, out: Path, workers: int) -> None:
    write_world(config, out, out.with_name(f"{out.name}-notes"), workers)


def _tiny(seed: int = 5) -> WorldConfig:
    return smoke_world("nuscenes", seed).with_(train_scenes=2, val_scenes=1, frames_per_scene=1)


def test_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    write(_tiny(), tmp_path / "one", workers=1)
    write(_tiny(), tmp_path / "two", workers=2)
    one = _digests(tmp_path / "one")
    assert len(one) > 3 * 8  # seven sensors and a label file a scene, and the tables
    assert one == _digests(tmp_path / "two")


def test_another_seed_is_another_world(tmp_path: Path) -> None:
    write(_tiny(5), tmp_path / "five", workers=1)
    write(_tiny(6), tmp_path / "six", workers=1)
    five, six = (sorted((tmp_path / name).rglob("*.pcd.bin")) for name in ("five", "six"))
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(five, six, strict=True))


def test_goes_on_after_a_stop_and_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, whole, stopped = _tiny(), tmp_path / "whole", tmp_path / "stopped"
    write(config, whole, workers=1)
    real, made = nuscenes_writer.write_drive, []

    def failing(*job: object) -> object:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(job)
        return real(*job)  # type: ignore[arg-type]

    monkeypatch.setattr(nuscenes_writer, "write_drive", failing)
    with pytest.raises(KeyboardInterrupt):
        write(config, stopped, workers=1)
    assert not (stopped / "splits.json").exists()

    resumed = []
    monkeypatch.setattr(nuscenes_writer, "write_drive", lambda *job: resumed.append(job) or real(*job))
    write(config, stopped, workers=1)
    assert len(resumed) == 1
    assert _digests(stopped) == _digests(whole)


def test_splits(nuscenes_root: Path) -> None:
    lists = json.loads((nuscenes_root / "splits.json").read_text())
    assert lists["paper"] == {"train": [f"scene-{i:04d}" for i in (1, 2, 3, 4)], "val": ["scene-0005", "scene-0006"]}
    held_out = lists["parametrize"]
    assert sorted(held_out["train"] + held_out["val"]) == lists["paper"]["train"]
    assert held_out["val"]


@pytest.mark.parametrize(("drives", "held_out"), [(4, "03"), (12, "07")])
def test_a_training_sequence_is_held_out(drives: int, held_out: str) -> None:
    lists = splits(smoke_world("kitti").with_(train_scenes=drives))
    assert lists["paper"]["val"] == ["08"]
    assert lists["parametrize"]["val"] == [held_out]
    assert sorted(lists["parametrize"]["train"] + [held_out]) == lists["paper"]["train"]
