"""Fails the n-th operation on the disk of whole stages for n = 1, 2, ... until a run passes untouched (as SQLite does).

Run as `python -m tests.stages.campaign CASE ACTION FOLDER STRIDE`: a stride of 1 visits every operation, 7 every
seventh. Operations are the failpoints and, seen by an audit hook, everything that Python itself opens for writing,
renames, creates or deletes below the store; a kill at an opening leaves the file cut off. After each failure the store
holds complete artifacts or none, the command repeated takes up what was finished, and its bytes are those of a run that
nothing disturbed. Writes how many operations there are, and how many were made to fail, to stdout.
"""

import errno
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cache.failpoint
from cache import content, gc, manifest
from cache.errors import StoreError
from cache.store import Store
from hvd import log
from stages.graph import Step
from stages.runner import Runner
from stages.runtime import Runtime

UNTOUCHED, FAILED = 0, 3
WRITES = os.O_WRONLY | os.O_RDWR
RUNTIME = Runtime(device="cpu", workers=0, recipe="smoke")


@dataclass
class Nth:
    """Fails the `turn`-th operation below `root`; stands in for the failpoints' own `Failure`."""

    turn: int
    action: str
    root: str
    count: int = 0

    def passed(self, name: str, path: str = "") -> None:
        """Count an operation, and act if it is the one; `path` is a file about to be opened for writing."""
        self.count += 1
        if self.count != self.turn:
            return
        if self.action == "kill":
            if path and self.turn % 2:
                os.truncate(path, 0) if os.path.exists(path) else os.mknod(path)
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError({"enospc": errno.ENOSPC, "eio": errno.EIO}[self.action], f"at {name}")

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's own report of what it is about to do."""
        if event == "open" and arguments[2] & WRITES and self._is_below(arguments[0]):
            self.passed(event, os.fsdecode(arguments[0]))
        elif event in ("os.rename", "os.mkdir", "os.remove", "shutil.rmtree") and self._is_below(arguments[0]):
            self.passed(event)

    def _is_below(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.root)


@dataclass
class Case:
    """What is run, and what a repeated run must not do again."""

    steps: list[Step]
    finished: Callable[[Store], Any] = lambda store: None  # what a killed run leaves
    reused: Callable[[Any, Store], bool] = lambda before, store: True
    prepare: Callable[[Store], None] = field(default=lambda store: None)


def in_child(action: Callable[[], None], failure: Nth | None = None) -> int:
    """Run `action` in a child; returns its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            if failure:
                cache.failpoint._armed = failure  # type: ignore[assignment]
                sys.addaudithook(failure.audit)
            action()
        except (OSError, StoreError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            expected = failure is not None and isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EIO)
            os._exit(FAILED if expected else _report())
        except BaseException:
            os._exit(_report())
        os._exit(UNTOUCHED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _report() -> int:
    sys.excepthook(*sys.exc_info())
    return 1


def require(truth: bool, what: str) -> None:
    """Fail with a message."""
    if not truth:
        sys.exit(what)


def check_whole(store: Store, wanted: dict[str, str], where: str) -> None:
    """Every artifact that exists is complete and has the bytes of a run that nothing disturbed."""
    require(store.damaged() == [], f"{where}: damaged {store.damaged()}")
    for item in store.artifacts():
        require(item.verify(full=True) == [], f"{where}: {item.verify(full=True)}")
        require(wanted[item.key] == item.digest, f"{where}: {item.stage} has other bytes")
    for folder in store.root.glob("[a-z]*/??/*"):
        require((folder / manifest.NAME).exists() and (folder / content.NAME).exists(), f"{where}: {folder} is half")


def campaign(case: Case, action: str, folder: Path, stride: int) -> tuple[int, int]:
    """How many operations a run has, and how many of them were made to fail."""
    expected = -signal.SIGKILL if action == "kill" else FAILED

    def run(store: Store) -> None:
        runner = Runner(store, RUNTIME)
        for step in case.steps:
            runner.run(step)

    clean = Store(folder / "clean")
    require(in_child(lambda: run(clean)) == UNTOUCHED, "the undisturbed run failed")
    wanted = {item.key: item.digest for item in clean.artifacts()}
    for failures, turn in enumerate(itertools.count(1, stride)):
        store = Store(folder / "store")
        shutil.rmtree(store.root, ignore_errors=True)
        case.prepare(store)
        status = in_child(lambda: run(store), Nth(turn, action, str(store.root)))  # noqa: B023
        require(status in (expected, UNTOUCHED), f"{turn}: exit status {status}")
        check_whole(store, wanted, f"after failure {turn}")
        before = case.finished(store)
        require(in_child(lambda: run(store)) == UNTOUCHED, f"{turn}: the repeated run failed")  # noqa: B023
        check_whole(store, wanted, f"repeated after failure {turn}")
        require({item.key for item in store.artifacts()} == wanted.keys(), f"{turn}: an artifact is missing")
        require(case.reused(before, store), f"{turn}: finished work was done again")
        gc.collect(store, gc.plan(store))
        left = [path for path in store.root.glob(".work/**/*") if path.is_file()]
        require(left == [], f"{turn}: left over {left}")
        if status == UNTOUCHED:
            return _operations(folder, run), failures
    raise AssertionError("no run passed untouched")


def _operations(folder: Path, run: Callable[[Store], None]) -> int:
    """The operations of an undisturbed run, counted."""
    store, found = Store(folder / "counted"), folder / "count"

    def count() -> None:
        failure = Nth(0, "kill", str(store.root))
        cache.failpoint._armed = failure  # type: ignore[assignment]
        sys.addaudithook(failure.audit)
        run(store)
        found.write_text(str(failure.count))

    require(in_child(count) == UNTOUCHED, "the counted run failed")
    return int(found.read_text())


def _parts(folders: Iterable[Path]) -> set[int]:
    """Complete parts, each by the number of its folder, which a rename keeps and writing anew does not."""
    return {path.stat().st_ino for folder in folders for path in folder.glob("part-?????.zarr")}


def _of(store: Store) -> list[Path]:
    return [item.path for item in store.artifacts()]


def _work(store: Store) -> list[Path]:
    return list(store.root.glob(".work/*/*/content"))


def _prep(steps: list[Step]) -> Case:
    from stages import parts

    parts.FRAMES_PER_PART = 1
    return Case(
        steps,
        finished=lambda store: _parts(_work(store) + _of(store)),
        reused=lambda before, store: before <= _parts(_of(store)),
    )


def frames(folder: Path) -> Case:
    """Two parts of frames and of labels, without cameras."""
    import stages.prep_frames
    import stages.prep_labels  # noqa: F401  # here, so that no child has to import it
    from stages import plans
    from stages.recipes import smoke
    from tests.datasets.tiny import write_semantickitti

    source = plans.Source("semkitti", write_semantickitti(folder / "data", {"00": 1, "08": 1}))
    return _prep([plans.frames(smoke(), source), plans.labels(smoke(), source)])


def images(folder: Path) -> Case:
    """Two parts of images of two cameras each."""
    import stages.prep_images  # noqa: F401
    from hvd.datasets.nuscenes import open_nuscenes
    from stages import plans
    from stages.recipes import smoke
    from tests.datasets import tiny

    source = plans.Source("nuscenes", tiny.write_nuscenes(folder / "data", ("scene-0061",)), tiny.VERSION)
    require(len(open_nuscenes(folder / "data", tiny.VERSION).samples) == 2, "two frames are two parts")
    return _prep([plans.images(smoke(), source)])


def world(folder: Path) -> Case:
    """Three drives of a world whose sensor files are a few bytes."""
    import stages.world  # noqa: F401
    from hvd.world import kitti_writer
    from hvd.world.config import WorldConfig
    from stages.specs import WORLD

    made = folder / "made"

    def write_drive(config: WorldConfig, split: Any, index: int, number: int, out: Path) -> dict[str, Any]:
        with made.open("a") as log:
            log.write(f"{number}\n")
        sequence = list(kitti_writer.sequences(config, split))[index]
        for name in ("velodyne/000000.bin", "labels/000000.label"):
            (out / "sequences" / sequence / name).write_bytes(bytes([number]) * 100)
        pose = [[float(row == column) for column in range(4)] for row in range(4)]
        return {"sequence": sequence, "first": 0, "poses": [pose], "calibration": "P0: 1\n"}

    def finished(store: Store) -> int:
        """Records there are; three where the artifact is."""
        made.write_text("")
        notes = len(list(store.root.glob(".work/world/*/scratch/drives/?????.json")))
        return 3 if store.artifacts() else notes

    kitti_writer.write_drive = write_drive  # type: ignore[assignment]
    config = WorldConfig(rig="kitti", train_scenes=2, val_scenes=1, frames_per_scene=1)
    return Case([Step(WORLD, config)], finished, lambda before, store: len(made.read_text().split()) == 3 - before)


def training(folder: Path) -> Case:
    """Four steps of a small network, saved after each: the real checkpoints and resumption."""
    import torch

    from hvd.training import checkpoint
    from tests.stages import tiny_training

    torch.set_num_threads(1)
    warm = torch.nn.Parameter(torch.zeros(1))
    warm.grad = torch.zeros(1)
    torch.optim.SGD([warm], lr=0.1).step()  # the first step of a process imports seconds of torch
    saved, begun = folder / "saved", folder / "begun"
    tiny_training.SAVED, tiny_training.BEGUN = saved, begun

    def finished(store: Store) -> int:
        """Steps done by the newest checkpoint, which is the last whose saving ended, or the one being saved."""
        at_least = int(saved.read_text()) if saved.exists() else 0
        for scratch in store.root.glob(".work/tiny-training/*/scratch"):
            found = checkpoint.load_newest(scratch)
            step = found[0] if found else 0
            require(at_least <= step <= at_least + 1, f"checkpoint of step {step} after {at_least} were saved")
            return step
        return tiny_training.STEPS

    def reused(before: int, store: Store) -> bool:
        return before == tiny_training.STEPS or int(begun.read_text()) == before

    def prepare(store: Store) -> None:
        saved.unlink(missing_ok=True)

    return Case([tiny_training.step()], finished, reused, prepare)


def export(folder: Path) -> Case:
    """The export of a small student from its weights file."""
    import torch

    import stages.export  # noqa: F401
    from hvd.models.config import UNetConfig
    from hvd.models.student import save_student
    from hvd.models.unet import SparseUNet
    from stages import plans
    from stages.graph import File
    from stages.specs import ExportConfig

    torch.set_num_threads(1)
    config = UNetConfig(voxel_size_m=0.5, stem=4, planes=(4, 4, 4, 4, 4, 4, 4, 4), layers=(1,) * 8)
    save_student(folder / "student.safetensors", SparseUNet(config), config)
    return Case([plans.export(ExportConfig(), File(folder / "student.safetensors"))])


CASES = {case.__name__: case for case in (frames, images, world, training, export)}


def main(name: str, action: str, folder: Path, stride: int) -> None:
    """One campaign."""
    from stages.provenance import provenance

    provenance("stages.runner")  # its results are kept: no child starts git
    log.configure(quiet=True)
    operations, failures = campaign(CASES[name](folder), action, folder, stride)
    sys.stdout.write(f"{operations} {failures}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
