"""A reader for the tar files that `cache.pack` writes: GNU format, plain files only.

Python's `tarfile` reads every dialect, links and devices with them; what comes from elsewhere gets this narrow door.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cache.errors import BadArchive

_BLOCK = 512
_COPY_BYTES = 1 << 20
_MAGIC = b"ustar  \0"
_PLAIN, _LONG_NAME = b"0", b"L"  # a name of over 100 bytes comes as a member of its own, before the file
_MAX_NAME_BYTES = 1 << 16


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name and size, its bytes being next."""

    name: str
    size: int


class Members:
    """Reads an archive front to back: a header by `next` or `expect`, then its bytes by `read`, `blocks` or `skip`."""

    def __init__(self, file: BinaryIO, source: Path) -> None:
        self.source, self.total = source, os.fstat(file.fileno()).st_size
        self._file, self._end = file, 0  # _end: where the current member's padded bytes end

    def bad(self, why: str) -> BadArchive:
        """The exception for this archive."""
        return BadArchive("not an archive that this toolkit packed", self.source, why)

    def next(self) -> Member | None:
        """The next file; None at the archive's end."""
        header = self._header()
        if header is None:
            return None
        kind, name, size = header
        if kind == _LONG_NAME:
            if size > _MAX_NAME_BYTES:
                raise self.bad(f"a name of {size} bytes")
            name = self._file.read(size).rstrip(b"\0")
            self.skip()
            kind, _, size = self._header() or (b"", b"", 0)
        if kind != _PLAIN:
            raise self.bad(f"{name!a} is not a plain file")
        try:
            return Member(name.decode("utf8"), size)
        except UnicodeDecodeError:
            raise self.bad(f"the name {name!a}") from None

    def expect(self, name: str) -> Member:
        """The next file, which must have this name."""
        member = self.next()
        if member is None or member.name != name:
            raise self.bad(f"{member.name if member else 'the end'!r} instead of {name!r}")
        return member

    def read(self, member: Member, limit: int) -> bytes:
        """A file's bytes, if they are no more than `limit`."""
        if member.size > limit:
            raise self.bad(f"{member.name!r} has {member.size} bytes")
        return b"".join(self.blocks(member))

    def blocks(self, member: Member) -> Iterator[bytes]:
        """A file's bytes, piece by piece."""
        left = member.size
        while left:
            block = self._file.read(min(left, _COPY_BYTES))
            if not block:
                raise self.bad("it ends too early")
            left -= len(block)
            yield block
        self.skip()

    def skip(self) -> None:
        """Go to the next header."""
        self._file.seek(self._end)

    def _header(self) -> tuple[bytes, bytes, int] | None:
        """Type, name and size of the next member."""
        block = self._file.read(_BLOCK)
        if block == bytes(_BLOCK):
            return None
        if len(block) < _BLOCK or block[257:265] != _MAGIC or _number(block[148:156]) != _checksum(block):
            raise self.bad(f"no header at byte {self._end}")
        size = _number(block[124:136])
        start = self._file.tell()
        if not 0 <= size <= self.total - start:
            raise self.bad(f"a member claims {size} bytes at byte {start}")
        self._end = start + -(-size // _BLOCK) * _BLOCK
        return block[156:157], block[:100].rstrip(b"\0"), size


def _number(field: bytes) -> int:
    """Octal digits or, for what they can't hold, a binary number after the byte 0x80; -1 for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.rstrip(b" \0")
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1


def _checksum(block: bytes) -> int:
    """Sum of a header's bytes, its own field taken as spaces."""
    return sum(block) - sum(block[148:156]) + 8 * ord(" ")
