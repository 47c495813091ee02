"""Copying an artifact's files to where the user wants them: each appears whole, or not at all."""

import shutil
from pathlib import Path

from cache import content, disk
from cache.artifact import Artifact
from cache.errors import translate
from cache.failpoint import failpoint
from hvd.errors import ResourceError, UsageError
from stages.intact import require_intact


def copy_files(item: Artifact, folder: Path) -> None:
    """Copy an artifact's files, without the store's own, into `folder`, over files of the same names.

    Raises:
        CorruptError: the artifact is damaged.
        UsageError: a folder is where a file should go, or a file where a folder should.
        ResourceError: the disk is full, or `folder` can't be written.
    """
    with item.reading():
        require_intact(item)
        names = sorted(name for name, _ in content.walk(item.path))
        for name in names:
            if (folder / name).is_dir():
                raise UsageError("a folder is where a file should go", where=folder / name, hint="name another --out")
        for name in names:
            try:
                _copy(item.path / name, folder / name)
            except (FileExistsError, NotADirectoryError):
                raise UsageError("not a folder", where=(folder / name).parent, hint="name another --out") from None
            except OSError as error:
                raise ResourceError(str(translate(error, folder)), hint="name another --out") from error


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(disk.fresh_name(target.name[:200]))
    try:
        failpoint("copy.write")
        shutil.copyfile(source, unfinished)
        unfinished.replace(target)
    finally:
        disk.remove(unfinished)
