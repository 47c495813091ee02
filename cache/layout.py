"""Where things are below a store's root.

<stage>/<k2>/<key>/         artifacts; k2: the key's first two digits
.work/<stage>/<key>/        work in progress, beside its lock file <key>.lock
.pins/<key>                 empty files
.trash/                     what is being deleted
.lock                       held while a sequence number is given out
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cache import disk
from cache.errors import translate
from cache.key import KEY_PATTERN
from cache.manifest import STAGE_PATTERN

WORK, PINS, TRASH, LOCK = ".work", ".pins", ".trash", ".lock"
TRASHED = re.compile(r"[0-9a-f]{16}-\d+-\d+")  # what `trash_of` gives; other names in .trash are none of ours


def path_of(root: Path, stage: str, key: str) -> Path:
    """Where the artifact of `key` is, or would be; raises ValueError on a malformed stage or key."""
    _check(stage, key)
    return root / stage / key[:2] / key


def work_of(root: Path, stage: str, key: str) -> Path:
    """Where the work in progress on `key` is, or would be; raises ValueError on a malformed stage or key."""
    _check(stage, key)
    return root / WORK / stage / key


def lock_of(work: Path) -> Path:
    """The lock file of a work folder."""
    return work.with_name(f"{work.name}.lock")


def trash_of(root: Path, key: str) -> Path:
    """A new name for what is left of `key`'s artifact while it is being deleted."""
    return root / TRASH / disk.fresh_name(key[:16])


def folders(root: Path, stage: str | None = None, k2: str = "") -> Iterator[Path]:
    """The folder of each artifact, and of what is left of one."""
    for name in [stage] if stage else filter(STAGE_PATTERN.fullmatch, names(root)):
        for prefix in [k2] if k2 else names(root / name):
            for key in filter(KEY_PATTERN.fullmatch, names(root / name / prefix)):
                yield root / name / prefix / key


def works(root: Path) -> Iterator[Path]:
    """Each work folder that exists, or whose lock file does."""
    for stage in filter(STAGE_PATTERN.fullmatch, names(root / WORK)):
        keys = {name.removesuffix(".lock") for name in names(root / WORK / stage)}
        for key in sorted(filter(KEY_PATTERN.fullmatch, keys)):
            yield root / WORK / stage / key


def names(folder: Path) -> list[str]:
    """Sorted names in a folder, none if it is no folder; raises ReadOnly, StoreIO if it can't be read."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise translate(error, folder) from error


def _check(stage: str, key: str) -> None:
    if not STAGE_PATTERN.fullmatch(stage) or not KEY_PATTERN.fullmatch(key):
        raise ValueError(f"malformed stage or key: {stage!r}, {key!r}")
