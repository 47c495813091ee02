"""Artifacts as one tar file, and back.

For each artifact: `<stage>/<key>/manifest.json`, `files.json`, then the listed files in order. The reader takes exactly
that and nothing else: no name in the archive decides where something is written before it is checked, no size is
believed before it is compared with the archive's own, and nothing is published before its sha256 is right.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cache import content, disk, manifest
from cache.archive import Member, Members
from cache.artifact import Artifact
from cache.content import Entries, FileEntry
from cache.errors import Corrupt, translated
from cache.failpoint import failpoint
from cache.manifest import Manifest
from cache.store import Store
from cache.work import Work

if TYPE_CHECKING:
    from tarfile import TarFile


def pack(artifacts: Iterable[Artifact], target: Path) -> None:
    """Write artifacts into the tar file `target`, which appears when complete; the same input gives the same bytes.

    Raises:
        Corrupt: an artifact is damaged.
        NotFound: an artifact is gone.
        NoSpace, ReadOnly, StoreIO: `target` can't be written.
    """
    import tarfile  # only here: it takes longer to import than the store

    unfinished = target.with_name(disk.fresh_name(target.name[:200]))
    with translated(target), ExitStack() as cleanup:
        cleanup.callback(disk.remove, unfinished)
        with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT, encoding="utf8") as archive:
            for item in artifacts:
                with item.reading():
                    _require_intact(item)
                    _add(archive, item)
        disk.flush(unfinished, "pack")
        disk.rename(unfinished, target, "pack")


def _require_intact(item: Artifact) -> None:
    problems = item.verify(full=True)
    if problems:
        raise Corrupt("damaged artifact", item.path, problems[0])


def _add(archive: "TarFile", item: Artifact) -> None:
    names = sorted(content.read_entries(item.path / content.NAME, item.digest))
    for name in (manifest.NAME, content.NAME, *names):
        member = archive.tarinfo(f"{item.stage}/{item.key}/{name}")
        member.size = (item.path / name).stat().st_size
        failpoint("pack.write")
        with (item.path / name).open("rb") as file:
            archive.addfile(member, file)


def unpack(store: Store, source: Path) -> list[Artifact]:
    """Publish the artifacts in a tar file made by `pack`; one that exists in the store already is left as it is.

    Raises:
        BadArchive: another layout than `pack` writes: folders, links, devices, names or sizes out of place.
        Corrupt: bytes that are not those that were packed.
        Newer: an artifact of a newer version.
        NoSpace, ReadOnly, StoreIO: the store can't be written.
    """
    with translated(source), source.open("rb") as file:
        members = Members(file, source)
        artifacts = []
        while (first := members.next()) is not None:
            artifacts.append(_unpack_one(store, members, first))
    return artifacts


def _unpack_one(store: Store, members: Members, first: Member) -> Artifact:
    sealed = _read_manifest(members, first)
    prefix = f"{sealed.stage}/{sealed.key}/"
    entries = _read_entries(members, sealed, prefix)
    with store.claim(sealed.stage, sealed.key, needs_bytes=sealed.size_bytes) as work:
        if work.artifact is not None:
            for _ in _matching(members, prefix, entries):
                members.skip()
            return work.artifact
        with ExitStack() as on_failure:
            unfinished = work.scratch / "unpacked"  # a stage that goes on later takes a file in `folder` for finished
            on_failure.callback(disk.remove, unfinished)  # and not what it left here: that may be days of training
            with translated(unfinished):
                disk.remove(unfinished)
                unfinished.mkdir()
            for name, member, entry in _matching(members, prefix, entries):
                _extract(members, member, entry, unfinished / name)
            work.take(unfinished)
            on_failure.pop_all()
        return _publish(work, sealed)


def _publish(work: Work, sealed: Manifest) -> Artifact:
    return work.publish(sealed.key_inputs, list(sealed.parents), sealed.details)


def _read_manifest(members: Members, first: Member) -> Manifest:
    if first.name.rpartition("/")[2] == manifest.NAME:
        sealed = manifest.parse(members.read(first, manifest.MAX_BYTES), members.source)
        if first.name == f"{sealed.stage}/{sealed.key}/{manifest.NAME}":
            return sealed
    raise members.bad(f"{first.name!r} is not where a manifest belongs")


def _read_entries(members: Members, sealed: Manifest, prefix: str) -> Entries:
    listing = members.read(members.expect(prefix + content.NAME), members.total)
    if content.digest_of(listing) != sealed.digest:
        raise Corrupt("altered", members.source, prefix + content.NAME)
    entries = content.parse(listing, members.source)
    size = sum(entry.size for entry in entries.values())
    if content.to_bytes(entries) != listing or (size, len(entries)) != (sealed.size_bytes, sealed.file_count):
        raise members.bad(f"{prefix}: its two lists do not agree")
    if size > members.total:
        raise members.bad(f"{prefix}: claims {size} bytes")
    return entries


def _matching(members: Members, prefix: str, entries: Entries) -> Iterator[tuple[str, Member, FileEntry]]:
    for name, entry in sorted(entries.items()):
        member = members.expect(prefix + name)
        if member.size != entry.size:
            raise members.bad(f"{member.name!r} has {member.size} bytes instead of {entry.size}")
        yield name, member, entry


def _extract(members: Members, member: Member, entry: FileEntry, target: Path) -> None:
    digest = hashlib.sha256()
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for block in members.blocks(member):
                failpoint("unpack.write")
                digest.update(block)
                file.write(block)
    if digest.hexdigest() != entry.sha256:
        raise Corrupt("altered", members.source, member.name)
