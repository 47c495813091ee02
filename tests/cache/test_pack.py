"""Packing: round trip, and what `unpack` refuses."""

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cache import content, manifest
from cache.artifact import Artifact
from cache.errors import BadArchive, Corrupt, Newer, StoreError, StoreIO
from cache.key import key_of
from cache.pack import pack, unpack
from cache.store import Store

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def packed(tmp_path: Path, publish) -> Path:
    """A tar file with two artifacts, one with long names."""
    pack([publish(0), publish(1)], tmp_path / "packed.tar")
    return tmp_path / "packed.tar"


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


def members_of(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def write(path: Path, members: Members, tar_format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=tar_format) as archive:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))
    return path


def refuse(store: Store, path: Path, error: type[StoreError], match: str = ".") -> None:
    """`unpack` raises, and neither publishes nor writes outside the store."""
    outside = set(path.parent.rglob("*"))
    with pytest.raises(error, match=match) as caught:
        unpack(store, path)
    assert "\n" not in str(caught.value)
    assert store.artifacts() == store.damaged() == []
    made = set(path.parent.rglob("*")) - outside
    assert all(item.is_relative_to(store.root) for item in made)
    assert not [item for item in made if item.is_file() and item.suffix != ".lock"]


def test_round_trip(store: Store, other: Store, packed: Path) -> None:
    received = unpack(other, packed)
    assert received == other.artifacts()
    for new, old in zip(received, store.artifacts(), strict=True):
        assert (new.stage, new.key, new.digest) == (old.stage, old.key, old.digest)
        assert (new.key_inputs, new.parents, new.details) == (old.key_inputs, old.parents, old.details)
        assert new.verify(full=True) == []


def test_long_names_and_big_files(store: Store, other: Store, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    key_inputs = {"stage": "prep"}
    with store.claim("prep", key_of(key_inputs)) as work:
        (work.folder / ("d" * 200)).mkdir()
        (work.folder / ("d" * 200) / ("ü" * 127)).write_bytes(data)
        pack([work.publish(key_inputs, [], {})], tmp_path / "x.tar")
    (received,) = unpack(other, tmp_path / "x.tar")
    assert received.size_bytes == len(data)
    assert received.verify(full=True) == []


def test_same_input_gives_the_same_bytes(store: Store, packed: Path, tmp_path: Path) -> None:
    pack(store.artifacts(), tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == packed.read_bytes()
    with tarfile.open(packed) as archive:  # any tar program can read it
        assert archive.getnames()[0].endswith(manifest.NAME)


def test_what_exists_is_left_as_it_is(store: Store, packed: Path) -> None:
    before = store.artifacts()
    assert unpack(store, packed) == before == store.artifacts()


def test_arrivals_are_numbered_by_the_store_they_come_to(other: Store, packed: Path, publish) -> None:
    assert [item.sequence for item in unpack(other, packed)] == [1, 2]
    assert publish(7).sequence == 3


def test_damaged_artifact_is_not_packed(publish, tmp_path: Path) -> None:
    made: Artifact = publish()
    (made.path / "a.bin").write_bytes(b"alphA")
    with pytest.raises(Corrupt, match=r"a\.bin"):
        pack([made], tmp_path / "x.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["störe with space"]


def test_any_flipped_byte_is_refused_or_harmless(other: Store, publish, tmp_path: Path) -> None:
    made: Artifact = publish()
    pack([made], tmp_path / "x.tar")
    data = bytearray((tmp_path / "x.tar").read_bytes())
    refused = 0
    for place in range(0, len(data), 61):
        altered = data.copy()
        altered[place] ^= 16
        (tmp_path / "x.tar").write_bytes(altered)
        try:
            unpack(other, tmp_path / "x.tar")
        except (BadArchive, Corrupt):
            refused += 1
        assert all(item.digest == made.digest and item.verify(full=True) == [] for item in other.artifacts())
    assert refused > 20


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6])
def test_truncated_archive(other: Store, publish, tmp_path: Path, share: float) -> None:
    pack([publish()], tmp_path / "x.tar")
    with open(tmp_path / "x.tar", "r+b") as file:
        file.truncate(int(share * file.seek(0, os.SEEK_END)))
    refuse(other, tmp_path / "x.tar", BadArchive)


def _rename(name: str) -> Callable[[tarfile.TarInfo], None]:
    return lambda member: setattr(member, "name", name)


def _retype(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, "../../../outside"

    return change


ALTERATIONS: dict[str, Callable[[tarfile.TarInfo], None]] = {
    "parent": _rename("../outside"),
    "absolute": _rename("/tmp/outside"),
    "other name": _rename("prep/x"),
    "symlink": _retype(tarfile.SYMTYPE),
    "hard link": _retype(tarfile.LNKTYPE),
    "character device": _retype(tarfile.CHRTYPE),
    "block device": _retype(tarfile.BLKTYPE),
    "pipe": _retype(tarfile.FIFOTYPE),
    "folder": _retype(tarfile.DIRTYPE),
    "sparse": _retype(tarfile.GNUTYPE_SPARSE),
    "contiguous": _retype(tarfile.CONTTYPE),
}


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("name", ALTERATIONS)
def test_members_out_of_place_are_refused(other: Store, publish, tmp_path: Path, name: str, place: int) -> None:
    pack([publish()], tmp_path / "x.tar")
    members = members_of(tmp_path / "x.tar")
    ALTERATIONS[name](members[place][0])
    refuse(other, write(tmp_path / "x.tar", members), BadArchive)


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_other_dialects_are_refused(other: Store, packed: Path, tar_format: int) -> None:
    members = [(tarfile.TarInfo("prep/ü"), b"x"), *members_of(packed)]
    refuse(other, write(packed, members, tar_format), BadArchive)


def test_missing_doubled_and_extra_members_are_refused(other: Store, publish, tmp_path: Path) -> None:
    pack([publish()], tmp_path / "x.tar")
    members = members_of(tmp_path / "x.tar")
    refuse(other, write(tmp_path / "x.tar", members[:-1]), BadArchive)
    refuse(other, write(tmp_path / "x.tar", members[:3] + members[2:]), BadArchive)
    refuse(other, write(tmp_path / "x.tar", members[1:]), BadArchive)
    with pytest.raises(BadArchive):
        unpack(other, write(tmp_path / "x.tar", [*members, (tarfile.TarInfo("extra"), b"x")]))


def test_altered_content_is_refused(other: Store, publish, tmp_path: Path) -> None:
    pack([publish()], tmp_path / "x.tar")
    for place, error in ((0, Corrupt), (1, Corrupt), (2, Corrupt)):
        members = members_of(tmp_path / "x.tar")
        member, data = members[place]
        members[place] = (member, data.replace(b"a", b"A"))
        path = write(tmp_path / "y.tar", members)
        refuse(other, path, error)


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a/../../outside", "files.json", "x//y"])
def test_well_sealed_but_hostile_names_are_refused(other: Store, publish, tmp_path: Path, name: str) -> None:
    """Whoever makes an archive can compute every checksum in it."""
    made: Artifact = publish()
    entry = content.FileEntry(1, content.digest_of(b"x"))
    refuse(other, _forge(tmp_path / "x.tar", made, {name: entry}, {name: b"x"}), Corrupt, "list of files")


def test_claim_beyond_the_archive_is_refused_before_writing(other: Store, publish, tmp_path: Path) -> None:
    entries = {"bomb": content.FileEntry(10**13, "0" * 64)}
    refuse(other, _forge(tmp_path / "x.tar", publish(), entries, {"bomb": b"x"}), BadArchive, "claims")


def test_file_that_is_also_a_folder_is_refused(other: Store, publish, tmp_path: Path) -> None:
    entry = content.FileEntry(1, content.digest_of(b"x"))
    files = {"a": b"x", "a/b": b"x"}
    refuse(other, _forge(tmp_path / "x.tar", publish(), dict.fromkeys(files, entry), files), StoreIO)


@pytest.mark.parametrize(
    "field", [b"\x80" + b"\0" * 2 + b"\xff" * 9, b"\xff" * 12, b"77777777777\0", b"-1\0\0\0\0\0\0\0\0\0\0"]
)
def test_absurd_and_negative_sizes_in_a_header(other: Store, packed: Path, field: bytes) -> None:
    data = bytearray(packed.read_bytes())
    data[124:136] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    packed.write_bytes(data)
    refuse(other, packed, BadArchive, "claims")


def test_newer_artifact_is_refused(other: Store, packed: Path, monkeypatch) -> None:
    monkeypatch.setattr(manifest, "SCHEMA", 0)
    refuse(other, packed, Newer)


def test_missing_archive_names_the_path(other: Store, tmp_path: Path) -> None:
    refuse(other, tmp_path / "none.tar", StoreIO, r"none\.tar")


def _forge(path: Path, made: Artifact, entries: content.Entries, files: dict[str, bytes]) -> Path:
    """An archive with correct checksums throughout."""
    listing = content.to_bytes(entries)
    sealed = replace(
        made.manifest,
        digest=content.digest_of(listing),
        size_bytes=sum(entry.size for entry in entries.values()),
        file_count=len(entries),
    ).to_bytes()
    parts = [(manifest.NAME, sealed), (content.NAME, listing), *files.items()]
    return write(path, [(tarfile.TarInfo(f"{made.stage}/{made.key}/{name}"), data) for name, data in parts])


@pytest.mark.parametrize("whole", [False, True])
def test_a_training_that_was_begun_outlives_an_archive_that_is_refused(other, store, publish, tmp_path, whole) -> None:
    made = publish(0)
    pack([made], tmp_path / "x.tar")
    with other.claim(made.stage, made.key) as work:
        (work.scratch / "checkpoint-9000").write_bytes(b"days")
        (work.folder / "part").write_bytes(b"made")
        work.note({"codes": ["a"], "data": {}})
    if not whole:
        members = members_of(tmp_path / "x.tar")
        members[-1] = (members[-1][0], bytes(len(members[-1][1])))
        with pytest.raises(Corrupt):
            unpack(other, write(tmp_path / "x.tar", members))
        with other.claim(made.stage, made.key) as work:
            assert work.noted() == {"codes": ["a"], "data": {}}
            assert (work.scratch / "checkpoint-9000").read_bytes() == b"days"
            assert [path.name for path in work.folder.iterdir()] == ["part"]
            assert [path.name for path in work.scratch.iterdir()] == ["checkpoint-9000"]
    else:
        (received,) = unpack(other, tmp_path / "x.tar")
        assert received.digest == made.digest and not received.verify(full=True)
