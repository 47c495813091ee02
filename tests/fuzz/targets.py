"""What is fuzzed: for each reader the inputs, and a function that reads one; it may refuse with our own errors."""

import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from cache import content, manifest
from cache.key import key_of
from hvd.config import parse, read_toml
from hvd.datasets.labels import LABEL_MAPS
from hvd.datasets.nuscenes import open_nuscenes
from hvd.datasets.prepared import Frames, part_path, write_frames
from hvd.datasets.semantickitti import open_semantickitti
from hvd.datasets.splits import LabelBudget, own_splits
from hvd.datasets.voxels import voxelize
from hvd.models.config import SMALL_UNET
from hvd.models.detector_config import SMALL_VOXELNET
from hvd.models.student import read_config
from hvd.models.weights import load_checkpoint, resnet_state
from stages.plans import Settings
from stages.prep_frames import image_size, prepare
from stages.prep_labels import checked
from stages.recipes import load
from tests.datasets import tiny
from tests.fuzz.damage import ANYTHING, NUMBERS, WORDS, damaged_bytes, damaged_json, damaged_tree

DEPTH_SIZE = (4, 8)


class Target(NamedTuple):
    """A reader under test."""

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], object]


def targets(folder: Path) -> dict[str, Target]:
    """All of them; `folder` is theirs to write in."""
    return {
        "config file": config_file(folder / "config.toml"),
        "--set": assignments(),
        "--labels": Target(
            st.text(max_size=12) | st.from_regex(r"-?\d{1,3}(\.\d+)?(%|-frames)?", fullmatch=True), LabelBudget.parse
        ),
        "hvd.toml": settings(folder / "hvd.toml"),
        "manifest": manifests(),
        "files.json": file_lists(),
        "nuScenes tables": tables(tiny.write_nuscenes(folder / "tables", ("scene-0061",))),
        "splits.json": splits(folder / "splits"),
        "nuScenes points": points(open_nuscenes(tiny.write_nuscenes(folder / "points"), tiny.VERSION)),
        "SemanticKITTI points": points(open_semantickitti(tiny.write_semantickitti(folder / "kitti points"))),
        "nuScenes labels": labels(open_nuscenes(tiny.write_nuscenes(folder / "labels"), tiny.VERSION), 1),
        "SemanticKITTI labels": labels(open_semantickitti(tiny.write_semantickitti(folder / "kitti labels")), 4),
        "images": images(open_nuscenes(tiny.write_nuscenes(folder / "images"), tiny.VERSION)),
        "safetensors": safetensors(folder / "student.safetensors"),
        "pickled weights": pickles(folder / "weights.pth"),
        "zarr metadata": prepared(folder / "prepared"),
    }


def config_file(path: Path) -> Target:
    lines = [
        "[pretrain]",
        "batch = 8",
        "views = 'ipv'",
        "[pretrain.bev]",
        "weight = 0.5",
        "[frames]",
        "x = [1, {a = 1}]",
    ]
    wild = st.lists(st.sampled_from(lines) | st.builds("{} = {}".format, names(), values()), max_size=6).map("\n".join)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        loaded(load("mini", path))

    text = wild.map(lambda t: t.encode("utf8", "surrogatepass"))
    return Target(text | text.flatmap(damaged_bytes) | nested(), read)


def names() -> st.SearchStrategy[str]:
    """Dotted names of options, right ones and others."""
    return st.sampled_from(sorted(dotted(load("mini").model_dump()))) | st.lists(WORDS, max_size=4).map(".".join)


def values() -> st.SearchStrategy[str]:
    return ANYTHING.map(json.dumps) | WORDS


def dotted(tree: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield prefix + name
            yield from dotted(value, f"{prefix}{name}.")


def nested() -> st.SearchStrategy[bytes]:
    """What parsers that call themselves trip over, and numbers that Python refuses to read."""
    deep = [
        b"[" * 900 + b"]" * 900,
        b"a = " + b"[" * 300 + b"]" * 300,
        b"[" * 100_000,
        b"a = " + b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b"a = " + b"9" * 5000,
    ]
    return st.sampled_from([*deep, b"a." * 50_000 + b"a = 1", b"a = 9999-99-99", b"\xff\xfe"])


def loaded(recipe: Any) -> None:
    """A recipe that was accepted has keys."""
    for stage in ("frames", "images", "pretrain", "eval"):
        key_of(getattr(recipe, stage).resolved())


def assignments() -> Target:
    text = st.builds("{}={}".format, names(), values()) | WORDS
    deep = nested().map(lambda data: "pretrain.batch=" + data.decode("latin1"))
    return Target(st.lists(text | deep, min_size=1, max_size=3), lambda words: loaded(load("mini", None, words)))


def settings(path: Path) -> Target:
    good = '[data]\nnuscenes = "/data"\nversion = "v1.0-mini"\nsemkitti = "/data"\n'
    lines = st.lists(st.sampled_from(["nuscenes", "version", "semkitti", "data", "[data]"]) | WORDS, max_size=3)
    wild = st.builds("{}\n{} = {}".format, lines.map("\n".join), WORDS | st.just("data"), values())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        parse(Settings, read_toml(path))

    text = wild.map(lambda t: t.encode("utf8", "surrogatepass"))
    return Target(damaged_bytes(good.encode()) | text | nested(), read)


def manifests() -> Target:
    inputs = {"schema": 1, "stage": "prep", "version": 1, "config": {"a": 0.5}, "inputs": {"data": "0" * 64}}
    good = manifest.Manifest(
        stage="prep",
        key=key_of(inputs),
        digest="1" * 64,
        sequence=3,
        size_bytes=10,
        file_count=1,
        created="2026-01-01T00:00:00+00:00",
        key_inputs=inputs,
        parents=({"name": "data", "stage": "world", "key": "2" * 64, "digest": "3" * 64},),
        details={"metrics": {}},
    ).to_bytes()
    document = {name: value for name, value in json.loads(good).items() if name != "checksum"}
    sealed = damaged_tree(document).map(sealed_anew)  # a right checksum, so that the fields are looked at
    return Target(damaged_bytes(good) | sealed | nested(), lambda data: manifest.parse(data, Path("manifest.json")))


def sealed_anew(document: Any) -> bytes:
    """The manifest of any document, as one who forges it would write it."""
    text = json.dumps(document, sort_keys=True, indent=1) + "\n"
    if not text.startswith("{\n"):
        return text.encode("ascii")
    body = text.encode("ascii").removeprefix(b"{\n")
    return b"{\n" + manifest._checksum_line(body) + body


def file_lists() -> Target:
    entries = {"a/b.bin": content.FileEntry(3, "4" * 64), "c.txt": content.FileEntry(0, "5" * 64)}
    good = json.loads(content.to_bytes(entries))
    return Target(damaged_json(good) | nested(), lambda data: content.parse(data, Path("files.json")))


def tables(root: Path) -> Target:
    folder = root / tiny.VERSION
    good = {name: (folder / f"{name}.json").read_bytes() for name in tiny.TABLES}
    read_ones = ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose", "category", "lidarseg")

    def read(change: tuple[str, bytes]) -> None:
        name, data = change
        (folder / f"{name}.json").write_bytes(data)
        try:
            data_set = open_nuscenes(root, tiny.VERSION)
            image_size(data_set.samples)
            for sample in data_set.samples:
                frame = prepare(data_set, sample, DEPTH_SIZE)
                checked(data_set, sample, len(frame.point))
                data_set.read_image(sample.cameras[0])
        finally:
            (folder / f"{name}.json").write_bytes(good[name])

    def changes(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
        return st.tuples(st.just(name), damaged_json(json.loads(good[name])) | nested())

    return Target(st.sampled_from(read_ones).flatmap(changes), read)


def splits(folder: Path) -> Target:
    folder.mkdir()
    good = {"paper": {"train": ["scene-0061"], "val": ["scene-0103"]}, "parametrize": {"train": []}}

    def read(data: bytes) -> None:
        (folder / "splits.json").write_bytes(data)
        own_splits(folder, "paper")

    return Target(damaged_json(good) | nested(), read)


def points(data: Any) -> Target:
    """Any bytes, and whole records with every kind of number; through projection and voxels."""
    sample = data.samples[0]
    numbers = st.floats(width=32) | st.floats(-50, 50, width=32)
    records = st.lists(numbers, max_size=20).map(lambda row: struct.pack(f"<{len(row)}f", *row))

    def read(content: bytes) -> None:
        sample.points_path.write_bytes(content)
        frame = prepare(data, sample, DEPTH_SIZE)
        sound = np.isfinite(frame.point).all(1)
        with np.errstate(invalid="ignore"):  # as the callers of voxelize do
            positions = frame.point[:, :3].astype(np.float64)
        voxels = voxelize(positions, frame.point[:, 3], 0.1)
        assert sound[frame.pairs.point].all() and sound[voxels.point_voxel >= 0].all()
        assert all(np.isfinite(values).all() for values in (frame.pairs.uv, frame.pairs.depth, voxels.feature))

    good = sample.points_path.read_bytes()
    return Target(st.binary(max_size=200) | records | damaged_bytes(good), read)


def labels(data: Any, size: int) -> Target:
    sample = data.samples[0]
    path, good = sample.labels_path, sample.labels_path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        raw = checked(data, sample, tiny.POINTS)
        assert len(LABEL_MAPS[data.name].map(raw)) == tiny.POINTS

    count = tiny.POINTS * size
    return Target(st.binary(max_size=60) | st.binary(min_size=count, max_size=count) | damaged_bytes(good), read)


def images(data: Any) -> Target:
    view = data.samples[0].cameras[0]
    picture = Image.open(view.path)
    picture.load()

    def encoded(kind: str) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        return buffer.getvalue()

    def read(content: bytes) -> None:
        view.path.write_bytes(content)
        assert data.read_image(view).shape == (tiny.HEIGHT, tiny.WIDTH, 3)

    return Target(st.one_of([damaged_bytes(encoded(kind)) for kind in ("JPEG", "PNG", "BMP", "TIFF")]), read)


def safetensors(path: Path) -> Target:
    """Headers that lie about types, shapes and places, and configurations that are none."""
    good = save({"a": torch.zeros(3, 4), "b": torch.zeros(7)}, {"config": json.dumps(SMALL_UNET.resolved())})
    length = struct.unpack("<Q", good[:8])[0]
    header, tensors = json.loads(good[8 : 8 + length]), good[8 + length :]

    def assembled(text: bytes, claimed: int | None) -> bytes:
        return struct.pack("<Q", (len(text) if claimed is None else claimed) % 2**64) + text + tensors

    lengths = st.none() | NUMBERS.filter(lambda number: isinstance(number, int))
    configs = SMALL_UNET.resolved(), {"kind": "voxelnet", **SMALL_VOXELNET.resolved()}
    inner = st.one_of(*map(damaged_tree, configs)).map(json.dumps)
    carried = inner.map(lambda text: json.dumps({**header, "__metadata__": {"config": text}}).encode())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for reader in (read_config, load_checkpoint):
            reader(path)

    lying = st.builds(assembled, damaged_json(header) | carried, lengths)
    return Target(damaged_bytes(good) | lying | nested(), read)


def pickles(path: Path) -> Target:
    """Both formats of torch, damaged near their beginning and anywhere."""
    files = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}}, buffer, _use_new_zipfile_serialization=zipped)
        files.append(buffer.getvalue())

    def read(data: bytes) -> None:
        path.write_bytes(data)
        resnet_state(load_checkpoint(path), path)

    heads = st.sampled_from(files).flatmap(lambda f: damaged_bytes(f[:400]).map(lambda head: head + f[400:]))
    return Target(st.sampled_from(files).flatmap(damaged_bytes) | heads, read)


def prepared(folder: Path) -> Target:
    data = open_nuscenes(tiny.write_nuscenes(folder / "root", ("scene-0061",)), tiny.VERSION)
    frames = [prepare(data, sample, DEPTH_SIZE) for sample in data.samples]
    part = part_path(folder / "frames", 0)
    write_frames(part, [replace(frame, token=f"t{i}") for i, frame in enumerate(frames)], {"image_size": [32, 18]})
    files = sorted(part.rglob("zarr.json"))
    good = {path: path.read_bytes() for path in files}

    def read(change: tuple[Path, bytes]) -> None:
        path, content = change
        path.write_bytes(content)
        try:
            opened = Frames(folder / "frames")
            for index in range(len(opened)):
                opened.frame(index)
        finally:
            path.write_bytes(good[path])

    def changes(path: Path) -> st.SearchStrategy[tuple[Path, bytes]]:
        return st.tuples(st.just(path), damaged_json(json.loads(good[path])) | nested())

    return Target(st.sampled_from(files).flatmap(changes), read)
