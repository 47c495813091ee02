"""`hvd` on damaged data sets and weights: one line, the right exit code, and no artifact of the stage that failed.

Run through `main` in this process, which turns errors into lines and codes as the command does.
"""

import json
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from cache.content import RESERVED
from cache.store import Store
from hvd.cli.main import main
from tests.datasets.tiny import POINTS, VERSION, edit, write_nuscenes, write_semantickitti

NUSCENES = ("nuscenes", "--version", VERSION, "--recipe", "smoke", "--workers", "0")
NO_FEATURES = ("--set", "pretrain.cached_features=false")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hvd(tmp_path, monkeypatch, capfd) -> Command:
    """`hvd(arguments)`: exit code, stdout, stderr; the store is .hvd in an empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("HVD_NUSCENES", "HVD_SEMKITTI", "HVD_STORE", "HVD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hvd", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return (stop.value.code, *capfd.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def assert_refused(hvd: Command, arguments: tuple[object, ...], code: int, *words: str) -> None:
    """One error line that holds `words`, and `code`."""
    found, _, errors = hvd(*arguments)
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert found == code, errors
    assert len(lines) == 1 and "Traceback" not in errors, errors
    assert all(word in lines[0] for word in words), lines[0]


def published() -> list[str]:
    return sorted({item.stage for item in Store(Path(".hvd")).artifacts()})


def first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


SWEEPS, IMAGES, LABELS = "samples/LIDAR_TOP/*.bin", "samples/CAM_BACK/*.jpg", f"lidarseg/{VERSION}/*.bin"


def cut(pattern: str, count: int) -> Callable[[Path], object]:
    """Cut the end off the first file of `pattern`."""
    return lambda root: first(root, pattern).write_bytes(first(root, pattern).read_bytes()[:-count])


def picture(mode: str, size: tuple[int, int]) -> Callable[[Path], object]:
    return lambda root: Image.new(mode, size).save(first(root, IMAGES))


def record(table: str, **fields: object) -> Callable[[Path], object]:
    return lambda root: edit(root, table, lambda rows: rows[-1].update(fields))


def table_text(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / VERSION / f"{name}.json").write_text(text)


KEY = "s1-0-CAM_BACK-key"


def without_camera(root: Path) -> None:
    edit(root, "sample_data", lambda rows: [row.update(is_key_frame=False) for row in rows if row["token"] == KEY])


DAMAGES = {
    "18 points": (cut(SWEEPS, 7), ("truncated point file", "LIDAR_TOP", "no multiple of 20"), ()),
    "20 truncated image": (cut(IMAGES, 200), ("cannot decode the image", "CAM_BACK"), ("frames", "labels")),
    "18 missing sweep": (
        lambda root: first(root, SWEEPS).unlink(),
        ("cannot read the point file", "LIDAR_TOP", "--skip-bad"),
        (),
    ),
    "20 missing image": (
        lambda root: first(root, IMAGES).unlink(),
        ("cannot read the image", "CAM_BACK", "No such file"),
        ("frames", "labels"),
    ),
    "20 grey image": (picture("L", (32, 18)), ("wrong image", "L 32x18, not RGB 32x18"), ("frames", "labels")),
    "20 small image": (picture("RGB", (31, 18)), ("RGB 31x18, not RGB 32x18",), ("frames", "labels")),
    "21 intrinsics": (
        record("calibrated_sensor", camera_intrinsic=np.zeros((3, 3)).tolist()),
        ("camera_intrinsic of calib-CAM_BACK", "singular"),
        (),
    ),
    "21 quaternion": (record("calibrated_sensor", rotation=[1, 1, 0, 0]), ("rotation of calib-CAM_BACK", "1.41"), ()),
    "21 camera": (without_camera, ("CAM_BACK of s1-0", "no such key frame"), ()),
    "22 missing": (lambda root: (root / VERSION / "scene.json").unlink(), ("missing table", "scene.json"), ()),
    "22 dangling": (record("sample", scene_token="gone"), ("dangling token", "gone", "sample s1-0"), ()),
    "22 duplicate": (lambda root: edit(root, "scene", lambda rows: rows.append(rows[0])), ("duplicate token s0",), ()),
    "22 NaN": (record("ego_pose", timestamp=float("nan")), ("ego_pose.json", "NaN is no number"), ()),
    "22 nesting": (table_text("sample", "[" * 100_000), ("sample.json",), ()),
    "23 count": (cut(LABELS, 3), ("label count differs", f"{POINTS - 3} labels, {POINTS} points"), ("frames",)),
    "23 class": (
        lambda root: first(root, LABELS).write_bytes(bytes([99] * POINTS)),
        ("unknown class id 99", "_lidarseg.bin"),
        ("frames",),
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_data_set_is_named_in_one_line(hvd, tmp_path, name):
    damage, words, stages = DAMAGES[name]
    root = write_nuscenes(tmp_path / "data")
    damage(root)
    assert_refused(hvd, ("prep", *NUSCENES, "--root", root), 3, *words)
    assert published() == list(stages)


def test_odd_sweeps_are_counted_and_kept_in_place(hvd, tmp_path):
    """NaN, inf, an empty sweep, and one that no camera sees."""
    root = write_nuscenes(tmp_path / "data")
    odd, empty, unseen, _ = sorted(root.glob(SWEEPS))
    points = np.fromfile(odd, "<f4").reshape(-1, 5)
    points[[3, 7, 9], [0, 2, 3]] = np.nan, np.inf, -np.inf
    points.tofile(odd)
    empty.write_bytes(b"")
    next(iter(root.glob(f"lidarseg/{VERSION}/{empty.name.split('.')[0]}_*"))).write_bytes(b"")
    np.full((POINTS, 5), 1e13, "<f4").tofile(unseen)
    code, out, errors = hvd("prep", *NUSCENES, *NO_FEATURES, "--root", root, "--json")
    assert code == 0, errors
    metrics = json.loads(out)["artifacts"][0]["metrics"]
    assert metrics["points_not_finite"] == 3 and "3 points have a value that is not finite" in errors
    assert metrics["empty_sweeps"] == 1
    assert metrics["none_in_view"] == 2
    assert metrics["points"] == 3 * POINTS


def test_skip_bad_leaves_frames_out_and_counts_them(hvd, tmp_path):
    root = write_nuscenes(tmp_path / "data")
    bad = first(root, IMAGES)
    bad.write_bytes(bad.read_bytes()[:-200])
    arguments = ("prep", *NUSCENES, *NO_FEATURES, "--root", root, "--json")
    code, _, errors = hvd(*arguments)
    assert code == 3 and "--skip-bad" in errors
    code, out, errors = hvd(*arguments, "--skip-bad")
    assert code == 0, errors
    assert "skipped 1 of 4 key frames" in errors and bad.name in errors
    made = {item["stage"]: item for item in json.loads(out)["artifacts"]}
    assert made["frames"]["metrics"]["skipped"] == 1
    assert {made[stage]["metrics"]["frames"] for stage in ("frames", "labels", "images", "superpixels")} == {3}
    listed = json.loads((Path(made["frames"]["path"]) / "skipped.json").read_text())
    assert list(listed.values()) == [f"cannot decode the image: {bad.relative_to(root)}"]


def test_skip_bad_moves_no_key_unless_it_is_given_and_no_byte_unless_a_frame_is_bad(hvd, tmp_path):
    root = write_nuscenes(tmp_path / "data")
    arguments = ("prep", *NUSCENES, *NO_FEATURES, "--root", root, "--json")
    plain, off, on = (
        {item["stage"]: item for item in json.loads(hvd(*arguments, *more)[1])["artifacts"]}
        for more in ((), ("--set", "frames.skip_bad=false"), ("--skip-bad",))
    )
    assert {item["state"] for item in off.values()} == {"hit"}
    assert on["frames"]["key"] != plain["frames"]["key"]
    digests = [(Path(made["frames"]["path"]) / "files.json").read_bytes() for made in (plain, on)]
    assert digests[0] == digests[1]
    assert on["superpixels"]["state"] == "hit"


def test_all_frames_bad(hvd, tmp_path):
    root = write_nuscenes(tmp_path / "data")
    for sweep in root.glob(SWEEPS):
        sweep.write_bytes(b"abc")
    assert_refused(hvd, ("prep", *NUSCENES, "--root", root, "--skip-bad"), 3, "all 4 key frames are bad", "3 bytes")
    assert published() == []


class Payload:
    """Runs code on loading, if it is let."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("ran"),)


def write_weights(kind: str, path: Path) -> None:
    match kind:
        case "malicious pickle":
            path.write_bytes(pickle.dumps({"state_dict": Payload()}))
        case "truncated":
            torch.save({"conv1.weight": torch.zeros(64)}, path)
            path.write_bytes(path.read_bytes()[:-100])
        case "empty":
            path.write_bytes(b"")
        case "HTML page":
            path.write_text("<!DOCTYPE html><html>404</html>")
        case "HDF5 with an external link":
            with h5py.File(path, "w") as file:
                file["conv1.weight"] = h5py.ExternalLink("/etc/passwd", "/")
        case "npy of 10^13 rows":
            head = str({"descr": "<f4", "fortran_order": False, "shape": (10**13, 4)}).encode()
            path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        case "another architecture":
            torch.save({"blocks.0.attn.qkv.weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("malicious pickle", "could run code"),
        ("truncated", "truncated or no checkpoint"),
        ("empty", "the file is empty"),
        ("HTML page", "a web page"),
        ("HDF5 with an external link", "truncated or no checkpoint"),
        ("npy of 10^13 rows", "truncated or no checkpoint"),
        ("another architecture", "another network"),
    ],
)
def test_weights_that_are_none_are_refused_in_one_line(hvd, tmp_path, prepared_images, kind, words):
    path = tmp_path / "weights.pth"
    write_weights(kind, path)
    named = [f"{stage}.teacher.weights={path}" for stage in ("features", "pretrain")]
    options = ("--set", named[0], "--set", named[1], "--root", prepared_images / "data")
    store = ("--store", prepared_images / "store")
    assert_refused(hvd, ("prep", *NUSCENES, *options, *store), 3, words, str(path))
    assert not Store(prepared_images / "store").artifacts("features")
    assert not Path("ran").exists()


@pytest.fixture(scope="module")
def prepared_images(tmp_path_factory):
    """A data set and a store that lacks nothing but the teacher's features."""
    from stages import plans
    from stages.plans import Source
    from stages.recipes import load
    from stages.runner import Runner
    from stages.runtime import Runtime

    folder = tmp_path_factory.mktemp("prepared")
    source = Source("nuscenes", write_nuscenes(folder / "data"), VERSION)
    runner = Runner(Store(folder / "store"), Runtime(device="cpu", workers=0, recipe="smoke"))
    for step in plans.prep(load("smoke", None, ["pretrain.cached_features=false"]), source):
        runner.run(step)
    return folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pretrain.bev]\nwieght = 1", "unknown option pretrain.bev.wieght; did you mean pretrain.bev.weight"),
        ('[pretrain]\nbatch = "many"', "bad value for pretrain.batch"),
        ("[pretrain.bev]\nweight = nan", "bad value for pretrain.bev.weight"),
        ("no TOML", "cannot read the config file"),
    ],
)
def test_a_bad_config_file(hvd, tmp_path, text, words):
    path = tmp_path / "my.toml"
    path.write_text(text)
    assert_refused(hvd, ("pretrain", "--config", path), 2, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data = 3", "bad value for data"),
        ("[data]\nnuscenes = 5", "bad value for data.nuscenes"),
        ('[data]\nnuscene = "/x"', "did you mean data.nuscenes"),
        ("[", "hvd.toml"),
    ],
)
def test_a_bad_hvd_toml(hvd, text, words):
    Path("hvd.toml").write_text(text)
    assert_refused(hvd, ("prep", "nuscenes"), 2, words)


@pytest.mark.parametrize("labels", ["0%", "-1%", "200%", "abc"])
def test_a_bad_part_of_labels(hvd, labels):
    assert_refused(hvd, ("finetune", "semkitti", "--labels", labels), 2, "1%, 0.5% or 100%", '"12-frames"')


def listing(root: Path) -> list[tuple[str, int, int, int]]:
    """Everything below a folder: its name, kind and mode, size, and time of change."""
    found = [root, *sorted(root.rglob("*"))]
    return [(str(path), (s := path.lstat()).st_mode, s.st_size, s.st_mtime_ns) for path in found]


@pytest.mark.parametrize("dataset", ["nuscenes", "semkitti"])
def test_nothing_is_written_under_the_data_root(hvd, tmp_path, dataset):
    """Spaces, signs that are not ASCII, names of 255 bytes, read-only folders, reached through a symbolic link."""
    inside = tmp_path / "dä ta [1] $x" / ("n" * 253 + "é")
    inside.mkdir(parents=True)
    root = (write_nuscenes if dataset == "nuscenes" else write_semantickitti)(inside / "räw data")
    link = tmp_path / "the link"
    link.symlink_to(root)
    everything = [root, *root.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = listing(root)
    version = ("--version", VERSION) if dataset == "nuscenes" else ()
    options = ("--recipe", "smoke", "--workers", "0", *version, *NO_FEATURES, "--skip-bad", "--root", link)
    code, _, errors = hvd("prep", dataset, *options)
    assert code == 0, errors
    assert listing(root) == before
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("name", ["n" * 300, "a\nb", "nö such"])
def test_an_impossible_root(hvd, tmp_path, name):
    assert_refused(hvd, ("prep", "nuscenes", "--root", tmp_path / name), 3, "no nuscenes data set")


def test_a_file_that_kept_its_size_is_another_with_full_hash(hvd, tmp_path):
    """And the artifact can be repaired from what is there now."""
    root = write_semantickitti(tmp_path / "data")
    plain = ("prep", "semkitti", "--root", root, "--recipe", "smoke", "--workers", "0", "--json")
    full = (*plain, "--full-hash")

    def keys(arguments: tuple[object, ...]) -> dict[str, tuple[str, str]]:
        code, out, errors = hvd(*arguments)
        assert code == 0, errors
        return {item["stage"]: (item["key"], item["state"]) for item in json.loads(out)["artifacts"]}

    sizes, contents = keys(plain), keys(full)
    assert all(contents[stage][0] != sizes[stage][0] for stage in ("frames", "labels"))
    label = first(root, "sequences/*/labels/*.label")
    np.roll(np.fromfile(label, "<u4"), 1).tofile(label)
    assert {state for _, state in keys(plain).values()} == {"hit"}
    again = keys(full)
    assert again["frames"] == (contents["frames"][0], "hit")
    assert again["labels"][0] != contents["labels"][0] and again["labels"][1] == "run"
    store = Store(Path(".hvd"))
    item = store.find("labels", again["labels"][0])
    damaged = next(path for path in item.path.rglob("*") if path.is_file() and path.name not in RESERVED)
    damaged.write_bytes(damaged.read_bytes() + b"x")
    assert hvd("verify", "--repair")[0] == 0
    assert store.find("labels", again["labels"][0]).verify(full=True) == []
