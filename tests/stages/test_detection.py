"""Detection on KITTI as stages: prepared boxes, a detector that resumes to the bit, result files and their scores."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cache.store import Store
from hvd.datasets.box_augment_config import ObjectSampling
from hvd.datasets.detection import DetectionData, box_batch, require_voxels
from hvd.datasets.kitti_files import TYPES, read_calibration, read_labels, read_results
from hvd.datasets.prepared_boxes import PreparedBoxes
from hvd.errors import CheckFailedError, InputError, UsageError
from hvd.geometry.boxes import rect_from_lidar_boxes
from hvd.metrics.detection import evaluate
from hvd.models.detector_config import BevBackboneConfig, CentreHeadConfig, DetectorConfig, VoxelNetConfig
from hvd.models.detector_file import FILE
from hvd.models.student import save_student
from hvd.models.voxelnet import VoxelNet
from hvd.training.interrupt import Interrupted
from stages import evaluate_detection, finetune_detection, plans
from stages.graph import File
from stages.plans import Source
from stages.recipes import smoke
from stages.runner import Runner
from stages.runtime import Runtime
from stages.specs import ObjectName
from stages.training_specs import Sgd
from tests.datasets.tiny_kitti import CAR, DONT_CARE, write_kitti
from tests.stages.conftest import link
from tests.stages.test_training_options import moved_by
from tests.stages.test_trainings import same, stop_after

VAN = "Van 0.00 0 -1.50 10.00 12.00 30.00 36.00 1.90 1.90 5.00 3.00 1.60 12.00 -1.57"
EMPTY = "000003"  # a frame whose image shows no point
TINY = DetectorConfig(
    voxelnet=VoxelNetConfig(
        voxel_size_m=(0.4, 0.4, 0.1),
        range_min_m=(0.0, -9.6, -3.0),
        range_max_m=(19.2, 9.6, 1.0),
        stem=4,
        stages=(4, 4, 4, 4),
        out_channels=4,
    ),
    bev=BevBackboneConfig(layers=(1,), strides=(1,), channels=(8,), upsample=(2,), up_channels=(8,)),
    head=CentreHeadConfig(shared_channels=8, channels=8),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four frames with a car and a van each, two to train on; the last one's points lie behind the car."""
    root = write_kitti(tmp_path_factory.mktemp("kitti"))
    for path in (root / "training" / "label_2").iterdir():
        path.write_text(f"{CAR}\n{VAN}\n{DONT_CARE}\n")
    for path in (root / "training" / "velodyne").iterdir():  # a few points on each of the two, one that is none
        points = np.fromfile(path, "<f4").reshape(-1, 4)
        points[:10] = [12.3, 2.0, -1.0, 0.5]
        points[10:20] = [12.3, -3.0, -1.0, 0.5]
        points[20] = np.nan
        points[21] = [70.0, 0.0, 0.0, 0.5]  # shown, and off the detector's range
        if path.stem == EMPTY:
            points[:, 0] = -5.0
        points.tofile(path)
    lists = {"train": ["000000", "000001"], "val": ["000002", EMPTY]}
    (root / "splits.json").write_text(json.dumps({"paper": lists, "parametrize": lists}))
    return root


@pytest.fixture(scope="module")
def prepared_kitti(root, tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("store")
    Runner(Store(store), Runtime("cpu", 0)).run(plans.boxes(smoke(), Source("kitti", root)))
    return store


@pytest.fixture
def runner(prepared_kitti, tmp_path) -> Runner:
    shutil.copytree(prepared_kitti, tmp_path / "store", copy_function=link)
    return Runner(Store(tmp_path / "store"), Runtime("cpu", 0, recipe="smoke"))


def again(runner: Runner) -> Runner:
    return Runner(runner.store, runner.runtime)


def tune(root: Path, student: File | None = None, **changes):
    recipe = smoke()
    config = recipe.finetune.kitti.with_(**{"detector": TINY, "labels": "100%", "steps": 4, **changes})
    return plans.finetune(recipe, Source("kitti", root), config, student)


def score(root: Path, model, **changes):
    recipe = smoke()
    return plans.evaluate(recipe, Source("kitti", root), recipe.eval_detection.with_(**changes), model)


def opened(runner: Runner, root: Path) -> DetectionData:
    boxes = runner.run(plans.boxes(smoke(), Source("kitti", root))).artifact.path
    frames = runner.run(plans.frames(smoke(), Source("kitti", root))).artifact.path
    return DetectionData(frames, boxes, TINY.head.classes)


def test_boxes_are_the_benchmarks_files_and_the_whole_images_sizes(runner, root):
    folder = opened(runner, root).boxes.folder
    for name in ("label_2", "calib"):
        for path in (root / "training" / name).iterdir():
            assert (folder / name / path.name).read_bytes() == path.read_bytes()
    assert PreparedBoxes(folder).sizes["000000"] == (60, 40)
    assert PreparedBoxes(folder).sizes["000001"] == (64, 38)


def test_a_scene_holds_what_the_image_shows_and_each_box_in_its_place(runner, root):
    data = opened(runner, root)
    scene = data.scene(0)
    calibration = read_calibration(root / "training" / "calib" / "000000.txt")
    labels = read_labels(root / "training" / "label_2" / "000000.txt")
    for boxes, row in ((scene.boxes, 0), (scene.ignored, 1)):
        back = rect_from_lidar_boxes(boxes, calibration.rect_from_lidar)
        np.testing.assert_allclose(back, labels.box3d[row : row + 1], atol=0.01)
    assert scene.classes.tolist() == [0] and scene.token == "000000"

    raw = np.fromfile(root / "training" / "velodyne" / "000000.bin", "<f4").reshape(-1, 4).astype(np.float64)
    homogeneous = np.concatenate([raw[:, :3], np.ones((len(raw), 1))], axis=1)
    u, v, w = calibration.image_from_rect @ calibration.rect_from_lidar @ homogeneous.T
    with np.errstate(invalid="ignore"):
        shown = (w > 0) & (u / w >= 0) & (u / w < 60) & (v / w >= 0) & (v / w < 40)
    np.testing.assert_array_equal(scene.points, raw[shown].astype(np.float32))
    assert 20 <= shown.sum() < len(raw)
    assert len(data.points(3)) == 0


def test_a_batch_keeps_its_boxes_apart(runner, root):
    data = opened(runner, root)
    scenes = [data.scene(3), data.scene(1)]
    batch = box_batch(scenes, TINY.voxelnet.grid, TINY.voxelnet.low)
    assert [len(part) for part in batch.by_sample(batch.box)] == [1, 1]
    assert set(batch.coords[:, 0].tolist()) == {1}, "the first has no point in view"
    with pytest.raises(InputError, match=f"with too few points in the detector's range: {EMPTY}"):
        require_voxels(box_batch(scenes[:1], TINY.voxelnet.grid, TINY.voxelnet.low))


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("label_2", "Car", "Cow", ("line 1", "unknown class 'Cow'")),
        ("label_2", "1.60 12.00 -1.57", "1.60 12.00 -1.57 0.9", ("line 1", "16, expected 15")),
        ("label_2", "1.60 12.00 -1.57", "1.60 12.00", ("line 1", "14, expected 15")),
        ("label_2", "1.90 1.90 5.00", "1.90 0.00 5.00", ("line 2", "box without size")),
        ("label_2", "3.00 1.60 12.00", "3.00 nan 12.00", ("line 2", "not a finite number")),
        ("calib", None, None, ("no calibration", "restore it")),
        ("calib", "R0_rect", "R9_rect", ("missing calibration", "R0_rect")),
    ],
)
def test_a_bad_file_is_named(runner, root, tmp_path, name, old, new, words):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    path = copy / "training" / name / "000001.txt"
    path.unlink() if old is None else path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        runner.run(plans.boxes(smoke(), Source("kitti", copy)))
    assert all(word in str(caught.value) for word in (*words, f"{name}/000001.txt")), caught.value
    assert not [item for item in runner.store.artifacts("boxes") if str(copy) in item.details["sources"].values()]


def test_a_detector_resumes_to_the_same_bits_and_is_evaluated(runner, root, monkeypatch):
    step = tune(root)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            again(runner).run(step)
    resumed = again(runner).run(step)
    fresh = again(runner).run(tune(root, save_every=7))
    assert same(*(load_file(outcome.artifact.path / FILE) for outcome in (resumed, fresh)))
    assert resumed.artifact.details["metrics"]["labelled_frames"] == 2

    outcome = again(runner).run(score(root, step, split="all"))
    folder = outcome.artifact.path
    results = sorted((folder / evaluate_detection.RESULTS).iterdir())
    assert [path.stem for path in results] == ["000000", "000001", "000002", EMPTY]
    assert results[3].read_text() == "", "no point, no detection"
    found = [read_results(path) for path in results]
    assert sum(map(len, found)) > 0
    truth = [read_labels(root / "training" / "label_2" / path.name) for path in results]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["ap"] == {name: round(value, 4) for name, value in evaluate(truth, found).table().items()}
    assert metrics["map"] == outcome.artifact.details["metrics"]["map"]
    assert metrics["objects"]["Car"] == {"easy": 0, "moderate": 0, "hard": 0}, "24 pixels high: below all three"
    for part in ("kitti", "paper all (4 frames)", "100% of frames", "voxels 0.4 x 0.4 x 0.1 m", "random init"):
        assert part in metrics["protocol"]


def test_objects_come_from_labelled_frames_alone(runner, root):
    data = opened(runner, root)
    config = tune(root).config
    for workers in (0, 2):
        database = finetune_detection.build(data, [1, 1], config, workers)
        assert [[entry.token for entry in entries] for entries in database] == [["000001"] * 2, [], []]
    assert finetune_detection.build(data, [1], config.with_(sampling=None), 0) == ()
    with pytest.raises(UsageError, match="only 2 frames"):
        runner.run(tune(root, labels="3-frames"))


def test_an_interrupted_evaluation_detects_only_in_what_is_left(runner, root, monkeypatch):
    step = score(root, tune(root, steps=1), split="all")
    plain, seen = evaluate_detection.find_objects, []

    def find(*arguments):
        if len(seen) == 2:
            seen.append(None)
            raise Interrupted(15)
        seen.append(int(arguments[2].tokens[0]))
        return plain(*arguments)

    monkeypatch.setattr(evaluate_detection, "find_objects", find)
    with pytest.raises(Interrupted):
        again(runner).run(step)
    assert again(runner).run(step).artifact.details["metrics"]["frames"] == 4
    assert seen == [0, 1, None, 2, 3]


def test_half_precision_trains_too(runner, root):
    """Only dense convolutions take bfloat16: the losses differ by its rounding, and by no more."""
    plain, half = (again(runner).run(tune(root, steps=1, amp=amp)).artifact.details["metrics"] for amp in (False, True))
    assert plain["loss"] != half["loss"] and half["loss"] == pytest.approx(plain["loss"], rel=0.05)


@pytest.mark.parametrize("which", ["heat", "code"])
def test_maps_that_are_not_finite_are_no_result(runner, root, monkeypatch, which):
    """One class's heat is enough: it would fill the candidates, and pass for nothing found."""
    plain = finetune_detection.CentreDetector.forward

    def forward(*arguments):
        maps = plain(*arguments)
        getattr(maps, which)[:, -1] = torch.nan
        return maps

    model = tune(root, steps=1)
    runner.run(model)
    monkeypatch.setattr(finetune_detection.CentreDetector, "forward", forward)
    with pytest.raises(CheckFailedError, match="not finite: 000002"):
        runner.run(score(root, model))


def test_a_detector_s_classes_are_the_benchmark_s():
    usual = smoke().finetune.kitti
    assert set(get_args(ObjectName)) == set(TYPES) - {"DontCare"}
    for names, words in ((("car",), "unknown class car"), (("Car", "Car"), "named twice")):
        with pytest.raises(UsageError, match=words):
            usual.with_(detector=usual.detector.with_(head=usual.detector.head.with_(classes=names)))
    with pytest.raises(UsageError, match="unknown class Cars"):
        usual.with_(sampling=ObjectSampling(up_to=(("Cars", 3),)))
    with pytest.raises(UsageError, match="sampling is of Van, the detector of Car, Pedestrian, Cyclist"):
        usual.with_(sampling=ObjectSampling(up_to=(("Van", 3),)))
    with pytest.raises(UsageError, match="named twice in Car, Car"):
        usual.with_(sampling=ObjectSampling(up_to=(("Car", 3), ("Car", 4))))


def test_costs_and_repair_know_these_stages(runner, root):
    from stages.repair import step_of

    step = score(root, tune(root, steps=1))
    costs = {row.step.stage.name: row.cost for row in runner.status((step,))}
    assert costs["finetune-detection"][:2] == (2, 1) and costs["eval-detection"].frames == 2
    runner.run(step)
    for stage in ("boxes", "finetune-detection", "eval-detection"):
        (item,) = runner.store.artifacts(stage)
        assert runner.inputs.of_key(step_of(runner.store, item)) == item.key_inputs


def trained(runner: Runner, root: Path, **changes) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The detector's tensors after some steps, and its metrics."""
    found = again(runner).run(tune(root, **changes)).artifact
    return load_file(found.path / FILE), found.details["metrics"]


@pytest.fixture
def student(tmp_path) -> File:
    """An encoder's weights that no new detector begins with."""
    torch.manual_seed(5)
    encoder = VoxelNet(TINY.voxelnet)
    save_student(tmp_path / "student.safetensors", encoder, TINY.voxelnet)
    return File(tmp_path / "student.safetensors")


def parts(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Trained weights by part of the network: no statistics."""
    out: dict[str, dict[str, torch.Tensor]] = {"backbone": {}, "neck": {}, "head": {}}
    for name, value in tensors.items():
        if name.endswith(("weight", "bias")):
            out[name.partition(".")[0]][name] = value
    return out


def rates(encoder: float, head: float) -> dict[str, Any]:
    return {"optimizer": smoke().finetune.kitti.optimizer.with_(lr=encoder, weight_decay=0.0), "head_lr": head}


def test_training_begins_with_the_student_and_each_part_has_its_rate(runner, root, student):
    given = {f"backbone.{name}": value for name, value in load_file(student.path).items()}
    begun = {name: value for name, value in given.items() if name.endswith(("weight", "bias"))}
    still, _ = trained(runner, root, student=student, **rates(encoder=1e-12, head=3e-3))
    scratch, _ = trained(runner, root, **rates(encoder=1e-12, head=3e-3))
    turned, _ = trained(runner, root, student=student, **rates(encoder=3e-3, head=1e-12))
    assert moved_by(parts(still)["backbone"], begun) < 1e-9
    assert moved_by(parts(scratch)["backbone"], begun) > 0.01
    assert moved_by(parts(turned)["backbone"], begun) > 1e-3
    for part in ("neck", "head"):
        assert moved_by(parts(still)[part], parts(turned)[part]) > 1e-3
    means = [name for name in given if name.endswith("running_mean")]
    assert means and any(not torch.equal(still[name], given[name]) for name in means), "batch norm sees the batches"


def test_gradients_are_clipped(runner, root):
    sgd = Sgd(lr=1.0, momentum=0.0, dampening=0.0, weight_decay=0.0)
    first, _ = trained(runner, root, steps=1, optimizer=sgd, head_lr=1.0, clip_norm=1e-9)
    free, _ = trained(runner, root, steps=1, optimizer=sgd, head_lr=1.0, clip_norm=1e9)
    begin, _ = trained(runner, root, steps=1, optimizer=sgd.with_(lr=1e-30), head_lr=1e-30, clip_norm=1e9)
    for part in ("backbone", "neck", "head"):
        assert (
            moved_by(parts(first)[part], parts(begin)[part]) <= 2e-9 < moved_by(parts(free)[part], parts(begin)[part])
        )


def test_each_step_sees_its_frames_moved_anew_with_objects_put_in(runner, root, tmp_path, monkeypatch):
    """And it learns the weighted sum of its terms."""
    copy, other = tmp_path / "copy", "000001"  # whose car stands 5 m further away
    shutil.copytree(root, copy)
    (copy / "training" / "label_2" / f"{other}.txt").write_text(CAR.replace("1.60 12.00", "1.60 17.00"))
    sweep = copy / "training" / "velodyne" / f"{other}.bin"
    points = np.fromfile(sweep, "<f4").reshape(-1, 4)
    points[:10, 0] += 5.0
    np.concatenate([points, points[:1]]).tofile(sweep)  # of another size: keys see no more of sweeps
    seen = []

    def watch(scenes, *arguments):
        seen.append({scene.token: scene.boxes for scene in scenes})
        return box_batch(scenes, *arguments)

    monkeypatch.setattr(finetune_detection, "box_batch", watch)
    sampling = ObjectSampling(up_to=(("Car", 3),), min_points=1)  # both are drawn, and its own hits itself
    usual = tune(copy).config
    changes = {"loss": usual.loss.with_(box_weight=3.0), "augmentation": usual.augmentation.with_(rotation_deg=10.0)}
    _, metrics = trained(runner, copy, steps=3, batch=2, sampling=sampling, **changes)
    assert metrics["box"] > 0
    assert metrics["loss"] == pytest.approx(metrics["heat"] + 3.0 * metrics["box"], rel=1e-5)
    assert [sorted(batch) for batch in seen] == [["000000", other]] * 3
    for token in seen[0]:
        assert [len(batch[token]) for batch in seen] == [2, 2, 2], "its own car, and the other frame's"
        assert len({tuple(batch[token][0, :2]) for batch in seen}) == 3, "each step moves the boxes in its own way"


def test_frames_that_nobody_asks_for_need_no_labels(runner, root, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "training" / "label_2" / "000002.txt").unlink()
    model = tune(copy, steps=1)
    assert runner.run(model).artifact.details["metrics"]["labelled_frames"] == 2
    assert "1 of 4 frames have no label file; the first: " in capsys.readouterr().err
    with pytest.raises(InputError, match=r"no labels for frame: 000002 \(no label_2/000002.txt .*; restore it"):
        again(runner).run(score(copy, model))
    assert again(runner).run(score(copy, model, split="train")).artifact.details["metrics"]["frames"] == 2


@pytest.mark.parametrize("also", [(), ("training",)])
def test_the_benchmark_s_test_part_gets_result_files_alone(runner, root, tmp_path, capsys, also):
    """Its frames are numbered as training's are, and have points of their own."""
    from stages.repair import step_of

    model = tune(root, steps=1)
    data = tmp_path / "data"
    for name in ("testing", *also):
        shutil.copytree(root / "training", data / name)
    shutil.rmtree(data / "testing" / "label_2")
    for folder, kind in (("velodyne", "bin"), ("calib", "txt"), ("image_2", "png")):
        (data / "testing" / folder / f"000000.{kind}").unlink()
    source, config = Source("kitti", data, "testing"), smoke().eval_detection.with_(split="test")
    step = plans.evaluate(smoke(), source, config, model)
    assert {row.step.stage.name: row.cost.frames for row in runner.status((step,))}["eval-detection"] == 3
    item = runner.run(step).artifact
    assert item.details["metrics"] == {"map": None, "map_of": [], "frames": 3}
    results = sorted((item.path / evaluate_detection.RESULTS).iterdir())
    assert [path.stem for path in results] == ["000001", "000002", EMPTY]
    scored = runner.run(score(root, model, split="all")).artifact.path / evaluate_detection.RESULTS
    assert all(path.read_bytes() == (scored / path.name).read_bytes() for path in results)
    said = capsys.readouterr().err
    assert "detections, not scored: kitti testing, paper test (3 frames)" in said and "no label file" not in said
    for boxes in runner.store.artifacts("boxes"):
        assert runner.inputs.of_key(step_of(runner.store, boxes)) == boxes.key_inputs
    with pytest.raises(InputError, match="split val holds no frame"):
        again(runner).run(plans.evaluate(smoke(), source, smoke().eval_detection, model))
    for other in (Source("kitti", root), Source("kitti", None, "testing")):
        with pytest.raises(UsageError, match="no test part of kitti"):
            plans.evaluate(smoke(), other, config, model)


@pytest.mark.parametrize(
    ("labelled", "scored", "warned"),
    [
        ("train", "paper val", False),
        ("train", "paper train", True),
        ("train", "paper all", True),
        ("all", "paper val", True),
        ("val", "paper val", True),
        ("train", "parametrize train", True),  # the same frames by another name
        ("train", "parametrize val", False),
    ],
)
def test_a_score_on_frames_that_were_labelled_is_warned_of(runner, root, capsys, labelled, scored, warned):
    splits, split = scored.split()
    again(runner).run(score(root, tune(root, steps=1, split=labelled), splits=splits, split=split))
    assert ("it may have seen the answers" in capsys.readouterr().err) == warned


def test_labels_without_an_object_of_ours_are_warned_of(runner, root, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    for path in (copy / "training" / "label_2").iterdir():
        path.write_text(f"{VAN}\n")
    runner.run(tune(copy, steps=1))
    assert "no Car, Pedestrian, Cyclist in any of 2 labelled frames" in capsys.readouterr().err


def test_the_mean_is_over_classes_that_are_known_and_there():
    class All:
        def ap(self, measure, name, difficulty):
            return {"Car": 60.0, "Pedestrian": 30.0, "Cyclist": 0.0}[name]

        def table(self):
            return {}

    counts = {name: {"moderate": 0 if name == "Cyclist" else 5} for name in ("Car", "Pedestrian", "Cyclist")}
    for classes, expected in ((("Car", "Pedestrian", "Cyclist"), 45.0), (("Car",), 60.0), (("Cyclist",), None)):
        found = evaluate_detection.summarise(All(), classes, counts)
        assert found["map"] == expected and found["map_of"] == [name for name in classes if name != "Cyclist"]


def test_an_evaluation_takes_its_own_choice_of_detections(runner, root):
    model = tune(root, steps=1)
    few, many = (
        again(runner).run(score(root, model, decode=smoke().eval_detection.decode.with_(min_score=least))).artifact
        for least in (0.9, 0.0)
    )
    count = [json.loads((item.path / "metrics.json").read_text())["detections"] for item in (few, many)]
    assert count[0] < count[1]
