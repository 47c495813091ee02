"""One array of a Zarr v3 group, cut into chunks along its first axis: written by zarr, read straight from the files.

zarr's own reader needs 1-3 ms for each array, whatever its size, and takes a chunk that is gone for zeros (zarr 3.1.5).
This one needs a tenth of that, checks every CRC and refuses what is missing. The files are plain Zarr: any reader opens
them.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray

from cache.failpoint import failpoint
from hvd.errors import CorruptError, ResourceError

if TYPE_CHECKING:
    import zarr

_MAX_CHUNK_BYTES = 1_000_000_000
_CRC_BYTES = 4
_BLOSC_HEADER_BYTES = 16
_CODECS = (["bytes", "blosc", "crc32c"], ["vlen-utf8", "blosc", "crc32c"])


def write_array(group: "zarr.Group", name: str, values: NDArray[Any], rows_per_chunk: int) -> "zarr.Array[Any]":
    """Write `values` (R, ...) as a new array of the group, `rows_per_chunk` rows to a chunk; text is of type object."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    is_text = values.dtype == object
    failpoint("part.array")
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if is_text else values.dtype.newbyteorder("<"),
        chunks=(max(1, rows_per_chunk), *(max(1, size) for size in values.shape[1:])),
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},  # flat: no folder for each axis
        config={"write_empty_chunks": True},  # a chunk of zeros is written too, so that a missing one is an error
    )
    if values.size:
        failpoint("part.chunks")
        array[:] = values
    return array


def read_attributes(group: Path) -> dict[str, Any]:
    """The attributes of a group.

    Raises:
        CorruptError: its metadata is missing or malformed.
    """
    attributes = _read_json(group / "zarr.json").get("attributes")
    if not isinstance(attributes, dict):
        raise CorruptError("bad metadata", where=group / "zarr.json", why="no attributes")
    return attributes


class ChunkedArray:
    """An array on disk, read by rows; holds no open file, so that workers may share or copy it."""

    def __init__(self, folder: Path) -> None:
        """Read the metadata.

        Raises:
            CorruptError: metadata that is missing, malformed, not as `write_array` writes it, or claims an absurd size.
        """
        self.folder = folder
        path = folder / "zarr.json"
        metadata = _read_json(path)
        try:
            self.shape = tuple(int(size) for size in metadata["shape"])
            chunk = tuple(int(size) for size in metadata["chunk_grid"]["configuration"]["chunk_shape"])
            self._is_text = metadata["data_type"] == "string"
            self.dtype = np.dtype(object if self._is_text else metadata["data_type"])
            as_written = [codec["name"] for codec in metadata["codecs"]] in _CODECS
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError("bad metadata", where=path, why=f"{type(error).__name__}: {error}") from None
        regular = len(self.shape) == len(chunk) > 0 and min(self.shape) >= 0 and chunk[0] > 0
        if not as_written or not regular or chunk[1:] != tuple(max(1, size) for size in self.shape[1:]):
            raise CorruptError("bad metadata", where=path, why="not chunked and compressed as this program does")
        self.rows_per_chunk = chunk[0]
        self._chunk_shape = chunk
        self._chunk_bytes = int(np.prod(chunk, dtype=object)) * self.dtype.itemsize
        if self._chunk_bytes > _MAX_CHUNK_BYTES:
            raise CorruptError("bad metadata", where=path, why=f"claims chunks of {self._chunk_bytes:.3g} bytes")

    def __len__(self) -> int:
        return self.shape[0]

    def read(self) -> NDArray[Any]:
        """All rows; for small arrays."""
        return self.rows(0, len(self))

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start .. stop - 1 as an array of their own.

        Raises:
            CorruptError: a chunk is missing or its bytes are not the ones that were written, naming the file.
            IndexError: the array has no such rows.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start}:{stop} of {len(self)} in {self.folder}")
        if start == stop or 0 in self.shape:
            return np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        size = self.rows_per_chunk
        first, last = start // size, (stop - 1) // size
        parts = [
            self._chunk(number)[max(start - number * size, 0) : stop - number * size]
            for number in range(first, last + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _chunk(self, number: int) -> NDArray[Any]:
        path = self.folder / ".".join(["c", str(number), *(["0"] * (len(self.shape) - 1))])
        payload = _checked_payload(path)
        raw_bytes = int.from_bytes(payload[4:8], "little")
        if self._is_text:
            return _decode_text(path, payload, raw_bytes)
        if raw_bytes != self._chunk_bytes:
            raise CorruptError("bad chunk", where=path, why=f"{raw_bytes} bytes, not {self._chunk_bytes}")
        values = np.empty(self._chunk_shape, dtype=self.dtype)
        blosc.decompress(payload, values)
        return values


def _decode_text(path: Path, payload: bytes, raw_bytes: int) -> NDArray[Any]:
    if raw_bytes > _MAX_CHUNK_BYTES:
        raise CorruptError("bad chunk", where=path, why=f"claims {raw_bytes} bytes")
    return np.asarray(VLenUTF8().decode(blosc.decompress(payload)), dtype=object)


def _checked_payload(path: Path) -> bytes:
    """A chunk's compressed bytes, when its CRC says that they are the ones that were written."""
    data = _read_bytes(path)
    payload, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
    if len(payload) < _BLOSC_HEADER_BYTES or google_crc32c.value(payload) != int.from_bytes(crc, "little"):
        raise CorruptError("corrupt chunk", where=path, why="its checksum does not match")
    return payload


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CorruptError("bad metadata", where=path, why=str(error)) from None
    if not isinstance(tree, dict):
        raise CorruptError("bad metadata", where=path, why="not an object")
    return tree


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CorruptError("a file of the artifact is missing", where=path) from None
    except OSError as error:
        raise ResourceError("cannot read", where=path, why=error.strerror or str(error)) from None


def near_one_item(counts: Iterable[int]) -> int:
    """Rows to a chunk such that one is about as long as an item of a ragged array: the mean, rounded up."""
    sizes = list(counts)
    return max(1, -(-sum(sizes) // max(1, len(sizes))))
