"""Options that every stage command shares, and what they mean: recipe, store, runtime, data sources."""

import functools
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvd import log

if TYPE_CHECKING:
    from cache.store import Store
    from hvd.models.config import StudentKind
    from stages.plans import Source
    from stages.recipe import Recipe
    from stages.runner import Runner
    from stages.runtime import Runtime


def _store(path: Path) -> Path:
    check_folder(path)
    return path


StorePath = Annotated[Path, typer.Option("--store", envvar="HVD_STORE", help="Artifact store.", callback=_store)]
KeyPrefix = Annotated[str, typer.Argument(metavar="KEY", help="An artifact's key, or its first 4 characters or more.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DEFAULT_STORE = Path(".hvd")
BUILT_IN = "world"
DATA_SETS = ("nuscenes", "semkitti", "kitti")
Root = Annotated[
    Path | None, typer.Option("--root", help="Data set root, or world; default: environment, hvd.toml, built-in world.")
]
Version = Annotated[
    str | None, typer.Option("--version", help="nuScenes version folder, for example v1.0-mini; on kitti: testing.")
]


@dataclass(frozen=True)
class Common:
    """The options of every stage command."""

    recipe: Annotated[
        str | None, typer.Option(help="paper, mini or smoke; default: paper with a data root, else mini.")
    ] = None
    config: Annotated[Path | None, typer.Option(help="TOML file laid over the recipe.")] = None
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="stage.key=value, laid over the file; repeatable.")
    ] = None
    store: StorePath = DEFAULT_STORE
    seed: Annotated[int | None, typer.Option(help="Seed of this command's training.")] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    workers: Annotated[int, typer.Option(min=0, help="Worker processes for data.")] = 2
    wait: Annotated[bool, typer.Option(help="Wait for another process that makes the same artifact.")] = True
    json_: Json = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; do nothing.")] = False
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out key frames whose sweep or images can't be read.")
    ] = False
    full_hash: Annotated[
        bool, typer.Option("--full-hash", help="Know sweeps, images and labels by content, not by name and size.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")] = False

    def source(self, dataset: str, root: Path | None, version: str | None) -> "Source":
        """Where `dataset` lies, as `find_source` finds it, and how its files enter keys."""
        return replace(find_source(dataset, root, version), full_hash=self.full_hash)

    def recipe_name(self, *sources: "Source") -> str:
        """The recipe that was asked for; else `paper` with a data root and `mini` without."""
        return self.recipe or ("paper" if any(source.root for source in sources) else "mini")

    def load(self, *sources: "Source", student: "StudentKind" = "unet", tunes: bool = False) -> "Recipe":
        """The recipe for a student and, where it `tunes`, for the labelled share, with file and `--set` on top.

        It says which recipe, and where data is.
        """
        log.info(f"recipe {self.recipe_name(*sources)}; " + "; ".join(str(source) for source in sources))
        return self.load_quietly(*sources, student=student, tunes=tunes)

    def load_quietly(self, *sources: "Source", student: "StudentKind" = "unet", tunes: bool = False) -> "Recipe":
        """As `load`, and says nothing."""
        from stages.recipes import load

        name = self.recipe_name(*sources)
        skipping = ("frames.skip_bad=true",) if self.skip_bad else ()
        dataset = sources[0].dataset if len(sources) == 1 else "nuscenes"
        return load(name, self.config, (*(self.set_ or ()), *skipping), dataset, student, tunes)

    def open_store(self) -> "Store":
        """The artifact store."""
        from cache.store import Store

        return Store(self.store)

    def runtime(self, *sources: "Source") -> "Runtime":
        """Device, workers and waiting, as the stages take them.

        Raises:
            UsageError: no such device.
            ResourceError: a GPU that is not there: found now, not after hours of preparation.
        """
        from hvd.errors import UsageError
        from stages.runtime import Runtime

        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UsageError(f"unknown device {self.device!r}", hint="valid: auto, cpu, cuda, cuda:N")
        if self.device.startswith("cuda"):
            from hvd.training.device import pick_device

            pick_device(self.device)
        return Runtime(self.device, self.workers, self.wait, self.recipe_name(*sources))

    def runner(self, *sources: "Source") -> "Runner":
        """A runner over the store."""
        from stages.runner import Runner

        return Runner(self.open_store(), self.runtime(*sources))


def stage_command(function: Callable[..., None], *, trains: bool = False) -> Callable[..., None]:
    """Give `function(common, **own)` the shared options beside its own; `--seed` only where it `trains`."""
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "common"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(Common, eval_str=True)
    shared = [p.replace(kind=keyword) for p in signature.parameters.values() if trains or p.name != "seed"]

    @functools.wraps(function)
    def command(**options: Any) -> None:
        common = Common(**{p.name: options.pop(p.name) for p in shared})
        log.configure(quiet=common.quiet)
        function(common, **options)

    merged = [p.replace(kind=keyword) for p in own] + shared
    command.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]  # what Typer reads
    command.__annotations__ = {p.name: p.annotation for p in merged}
    return command


def find_source(dataset: str, root: Path | None, version: str | None) -> "Source":
    """Where `dataset` lies: `--root`, else HVD_<DATASET>, else `[data]` in hvd.toml, else the built-in world.

    Each of them may be `world`, which is the built-in one too.

    Raises:
        UsageError: an unknown data set, a version of no data, or an hvd.toml with an unknown key or a wrong value.
        InputError: a root that does not hold it.
    """
    from hvd.config import parse, read_toml
    from hvd.datasets.fingerprint import KITTI_TEST, check_layout
    from hvd.errors import UsageError
    from stages.plans import SETTINGS_FILE, DataSettings, Settings, Source

    if dataset not in DATA_SETS:
        raise UsageError(f"unknown data set {dataset!r}", hint=f"valid: {', '.join(DATA_SETS)}")
    settings = Path(SETTINGS_FILE)
    configured = parse(Settings, read_toml(settings)).data if settings.is_file() else DataSettings()
    place = root or os.environ.get(f"HVD_{dataset.upper()}") or getattr(configured, dataset)
    if str(place) == BUILT_IN:
        place = None
    if version is not None and dataset == "nuscenes" and not place:
        raise UsageError(f"--version {version} is of real data", hint="pass --root too")
    if version is not None and dataset == "kitti" and version != KITTI_TEST and not version.startswith("v"):
        raise UsageError(f"kitti has no version {version!r}", hint=f"valid: {KITTI_TEST}; training without --version")
    version = version or configured.version
    source = Source(dataset, Path(place).expanduser() if place else None, version)  # type: ignore[arg-type]
    if source.root is not None:
        check_layout(source.root, source.dataset, source.full_version)
    return source


def data_set_at(root: Path) -> str:
    """Which data set a root looks like; nuScenes where nothing says otherwise."""
    from hvd.datasets.fingerprint import KITTI_TEST

    folders = {"sequences": "semkitti", "training": "kitti", KITTI_TEST: "kitti"}
    return next((name for folder, name in folders.items() if (root / folder).is_dir()), "nuscenes")


def check_folder(folder: Path) -> None:
    """Before anything is run: results can be written into `folder`, which may be yet to be made.

    Raises:
        UsageError: something that is no folder has its name, or a parent's.
    """
    from hvd.errors import UsageError

    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise UsageError("not a folder", where=existing)


def require_store(store: Path) -> None:
    """A check of a store that is not there, perhaps for a misspelled name, must not pass.

    Raises:
        InputError: there is none.
    """
    from hvd.errors import InputError

    if not store.is_dir():
        raise InputError("no such store", where=store)


def check_file(file: Path, what: str, suffixes: Sequence[str] = ()) -> None:
    """Before anything is run: `file` can be written; `suffixes` that it may have, any without.

    Raises:
        UsageError: it is not of that kind, its folder does not exist, or it is a folder itself.
    """
    from hvd.errors import UsageError

    if suffixes and file.suffix.lower() not in suffixes:
        raise UsageError(f"unknown kind of {what}", where=file, hint=f"valid: {', '.join(suffixes)}")
    if not file.parent.is_dir():
        raise UsageError("no such folder", where=file.parent)
    if file.is_dir():
        raise UsageError("a folder", where=file, hint="name a file")


def emit(value: object) -> None:
    """Print `value` as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")
