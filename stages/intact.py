"""Whether an artifact still holds what was written, looked at before anything is read from it."""

import re

from cache.artifact import Artifact
from hvd.errors import CorruptError

_CHUNK = re.compile(r"part-\d+\.zarr/\w+/c\.[\d.]+")  # its reader compares its CRC: hashing it too would read it twice


def require_intact(item: Artifact) -> None:
    """Compare the files with their list: all sizes, and the bytes of those without a checksum of their own.

    Raises:
        CorruptError: naming the first file that is missing or altered.
    """
    problems = item.verify(lambda name: not _CHUNK.fullmatch(name))
    if problems:
        raise CorruptError(f"damaged {item.stage} artifact", where=problems[0],
                           hint=f"run: hvd verify {item.key[:8]} --repair")  # fmt: skip
