"""Pre-training and fine-tuning: resumable to the bit, independent of workers, and touching only what they should."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from hvd.datasets.augment_config import ImageAugmentation
from hvd.errors import CheckFailedError, InputError, ResourceError, UsageError
from hvd.models.distiller import Cameras
from hvd.models.student import read_config
from hvd.training import checkpoint
from hvd.training.interrupt import Interrupted
from stages import plans, pretrain, protocol
from stages.finetune import losses
from stages.plans import Source
from stages.recipes import load, smoke
from stages.runner import Runner
from stages.similarity import similarity
from stages.training import Training
from tests.datasets.tiny import write_semantickitti

NUSCENES, SEMKITTI = Source("nuscenes"), Source("semkitti")


def pretrain_step(kind="unet", **changes):
    recipe = load("smoke", student=kind)
    return plans.pretrain(recipe, NUSCENES, recipe.pretrain.with_(**{"steps": 4, "batch": 2, **changes}))


def weights(outcome) -> dict[str, torch.Tensor]:
    folder = outcome.artifact.path
    return load_file(folder / "student.safetensors") | load_file(folder / "heads.safetensors")


def stop_after(monkeypatch, step: int) -> None:
    """Behave as if a signal came during step `step`, after a checkpoint was written at its end."""
    plain = Training.advance

    def advance(self, *args) -> None:
        plain(self, *args)
        if self.step == step:
            self.save()
            raise Interrupted(15)

    monkeypatch.setattr(Training, "advance", advance)


def same(first, second) -> bool:
    """Equal to the bit; batch norm's step counters, which nothing reads, aside."""
    names = {name for name in first if not name.endswith("num_batches_tracked")}
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in names)


@pytest.mark.parametrize("kind", ["unet", "voxelnet"])
@pytest.mark.parametrize("views", ["ipv", "bev", "ipv,bev"])
def test_pre_training_resumes_to_the_same_bits(runner, tmp_path, monkeypatch, views, kind):
    step = pretrain_step(kind, views=views)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            Runner(runner.store, runner.runtime).run(step)
    resumed = Runner(runner.store, runner.runtime).run(step)
    unbroken = weights_of_a_fresh_run(runner, step, tmp_path)
    assert same(weights(resumed), unbroken)
    assert all(torch.isfinite(value).all() for value in unbroken.values())


def weights_of_a_fresh_run(runner, step, tmp_path):
    """The same step in another store: its trainings are not shared."""
    import shutil

    from cache.store import Store
    from tests.stages.conftest import link

    other = tmp_path / "other"
    shutil.copytree(runner.store.root, other, copy_function=link, ignore=shutil.ignore_patterns("pretrain", ".work"))
    return weights(Runner(Store(other), runner.runtime).run(step))


def test_workers_change_no_bit(runner, tmp_path):
    step = pretrain_step()
    here = weights_of_a_fresh_run(runner, step, tmp_path)
    with_workers = Runner(runner.store, dataclasses.replace(runner.runtime, workers=2)).run(step)
    assert same(here, weights(with_workers))


@pytest.mark.parametrize("kind", ["unet", "voxelnet"])
def test_pre_training_learns(runner, kind):
    """On two frames without augmentation the losses fall well below their first values."""
    outcome = runner.run(pretrain_step(kind, steps=30, batch=2))
    import json

    history = json.loads((outcome.artifact.path / "history.json").read_text())
    first, last = history[0], history[-1]
    assert last["ipv"] < first["ipv"] - 0.3
    assert last["depth"] < first["depth"] - 0.5
    assert {"ipv_chance", "ipv_top1", "bev_chance", "bev_top1", "depth_abs_rel"} <= set(last)


def test_accumulation_takes_as_many_steps_of_the_same_samples(runner):
    whole = runner.run(pretrain_step(steps=2))
    parts = runner.run(pretrain_step(steps=2, accumulate=2))
    assert whole.artifact.key != parts.artifact.key
    assert parts.artifact.details["metrics"]["steps"] == 2


def test_pixels_without_a_measured_depth_can_be_left_out_of_the_ground(runner):
    """What the two kinds of pixels put on the ground adds up to what all of them do."""
    step = pretrain_step(views="bev")
    inputs = {name: runner.run(node).artifact.path for name, node in step.inputs}
    config = step.config.with_(bev=step.config.bev.with_(lift=None, min_weight=0.0))
    batch = pretrain.open_data(config, inputs).batch([0, 1], 0)
    networks = pretrain.build_networks(config).eval()
    features = pretrain.image_features(None, batch.pixels)
    some = config.with_(bev=config.bev.with_(lift="measured"))
    with torch.no_grad():
        voxels = networks.student(batch.feature, batch.coords, batch.batch_size)
        everything, nearest, _ = pretrain.ground_view(config, networks, voxels, features, batch)
        measured, _, _ = pretrain.ground_view(some, networks, voxels, features, batch)
        bins = config.bev.depth_bins
        left = (nearest < bins.lo_m) | (nearest >= bins.hi_m)
        cameras = (batch.intrinsics, batch.lidar_from_camera, batch.ego_from_camera, batch.aug_from_image)
        cameras = Cameras(*cameras, batch.aug_from_lidar)
        rest = networks.bev(voxels, batch.coords, batch.origin, features, cameras, left)
    assert 0 < left.sum() < left.numel()
    torch.testing.assert_close(measured.image + rest.image, everything.image, rtol=1e-4, atol=1e-5)
    assert torch.equal(measured.reached | rest.reached, everything.reached)
    assert measured.reached.sum() < everything.reached.sum()


def test_the_protocol_says_what_differs_from_the_method():
    paper, mini = load("paper").pretrain, load("mini").pretrain
    assert protocol.views(paper.only_views()) == "ipv+bev"
    assert protocol.views(mini.only_views()) == "ipv+bev (measured pixels, cells weighed by voxels)"
    filtered = mini.with_(views="ipv", occlusion_filter=True).only_views()
    assert protocol.views(filtered) == "ipv without occluded points"


def test_a_cell_counts_by_the_voxels_above_it():
    bev, voxels = load("smoke").pretrain.bev, torch.tensor([1, 2, 5, 40])
    plain = bev.with_(min_voxels=None, weigh_up_to=None)
    assert pretrain.cell_weights(voxels, plain) is None
    assert pretrain.cell_weights(voxels, plain.with_(weigh_up_to=16)).tolist() == [1, 2, 5, 16]
    assert pretrain.cell_weights(voxels, plain.with_(min_voxels=2)).tolist() == [0, 1, 1, 1]


def test_ppkt_and_uncached_features_run(runner):
    ppkt = smoke().pretrain.ipv.with_(method="ppkt")
    outcome = runner.run(pretrain_step(views="ipv", ipv=ppkt, cached_features=False))
    assert outcome.artifact.details["metrics"]["ipv"] > 0


def test_a_voxelnet_is_a_student_like_any(runner):
    """Pre-trained by its own step: file, protocol, and no segmentation from it."""
    step = pretrain_step("voxelnet", steps=1)
    outcome = runner.run(step)
    assert read_config(outcome.artifact.path / "student.safetensors") == step.config.student
    record = protocol.read(outcome.artifact.path)
    assert protocol.student_line(record).startswith("student VoxelNet (voxels 0.2 x 0.2 x 0.1 m) ipv+bev (")
    assert isinstance(record, dict) and record["voxel_size_m"] == [0.2, 0.2, 0.1]
    with pytest.raises(InputError, match="a VoxelNet, and a U-Net is needed"):
        runner.run(finetune_step(SEMKITTI, step))


def test_what_else_than_the_training_part_was_trained_on_is_said(runner):
    student = pretrain_step(views="ipv", split="all", steps=1)
    assert "(12 frames of paper all, 1 steps" in protocol.student_line(protocol.read(runner.run(student).artifact.path))
    tune = finetune_step(NUSCENES, student, splits="parametrize", steps=1)
    model = runner.run(plans.evaluate(load("smoke"), NUSCENES, load("smoke").eval, tune)).artifact
    line = json.loads((model.path / "metrics.json").read_text())["protocol"]
    assert "2 frames of parametrize train)" in line and "frames of paper all," in line


def test_a_loss_that_is_not_finite_ends_the_training_with_its_batch_named(runner):
    step = pretrain_step(steps=8, optimizer={"kind": "sgd", "lr": 1e30})
    with pytest.raises(CheckFailedError, match="not finite"):
        runner.run(step)
    assert list(runner.store.root.rglob("bad_batch.json"))


def test_out_of_memory_leaves_a_checkpoint_to_go_on_from(runner, tmp_path, monkeypatch):
    step = pretrain_step(views="ipv", steps=4, save_every=1)
    plain, calls = pretrain.losses, []

    def losses(*args):
        calls.append(args)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "losses", losses)
        with pytest.raises(ResourceError, match=r"pretrain ran out of memory.*checkpoints are kept") as caught:
            runner.run(step)
    assert caught.value.exit_code == 6
    (scratch,) = runner.store.root.glob(".work/pretrain/*/scratch")
    assert checkpoint.load_newest(scratch)[0] == 2
    resumed = Runner(runner.store, runner.runtime).run(step)
    assert same(weights(resumed), weights_of_a_fresh_run(runner, step, tmp_path))


def finetune_step(source, student=None, probe=False, **changes):
    recipe = smoke()
    base = getattr(recipe.probe if probe else recipe.finetune, source.dataset)
    return plans.finetune(recipe, source, base.with_(**changes), student)


def test_fine_tuning_resumes_to_the_same_bits(runner, monkeypatch):
    step = finetune_step(SEMKITTI, steps=4)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Interrupted):
            Runner(runner.store, runner.runtime).run(step)
    resumed = Runner(runner.store, runner.runtime).run(step)
    fresh = Runner(runner.store, runner.runtime).run(finetune_step(SEMKITTI, steps=4, save_every=7))
    for name in ("student.safetensors", "head.safetensors"):
        assert same(load_file(resumed.artifact.path / name), load_file(fresh.artifact.path / name))


def test_mixed_precision_reaches_the_head(runner):
    plain, mixed = (runner.run(finetune_step(NUSCENES, steps=1, amp=amp)).artifact for amp in (False, True))
    one, other = (item.details["metrics"]["loss"] for item in (plain, mixed))
    assert one != other and other == pytest.approx(one, rel=0.02)


def test_sequences_without_labels_stop_no_one_who_does_not_ask_for_them(runner, tmp_path):
    """SemanticKITTI as published: sequences 11 to 21 bring no labels."""
    source = Source("semkitti", write_semantickitti(tmp_path / "data", {"00": 2, "08": 1, "11": 1}))
    shutil.rmtree(source.root / "sequences/11/labels")
    recipe = load("smoke")
    tune = plans.finetune(recipe, source, recipe.finetune.semkitti.with_(labels="100%", steps=1), None)
    assert runner.run(plans.evaluate(recipe, source, recipe.eval.with_(dataset="semkitti"), tune)).artifact
    everything = recipe.eval.with_(dataset="semkitti", split="all")
    with pytest.raises(InputError, match="no labels for sample: 11/000000; choose a split that has labels"):
        runner.run(plans.evaluate(recipe, source, everything, tune))
    files = recipe.eval.with_(dataset="semkitti", split="test", predictions=True)
    predicted = runner.run(plans.evaluate(recipe, source, files, tune)).artifact
    points = (source.root / "sequences/11/velodyne/000000.bin").stat().st_size // 16
    assert (predicted.path / "predictions/sequences/11/predictions/000000.label").stat().st_size == 4 * points
    assert predicted.details["metrics"] == {"miou": None, "frames": 1, "by_range": {}}
    with pytest.raises(UsageError, match="nothing can be scored, ask for predictions"):
        recipe.eval.with_(split="test")
    bare = Source("semkitti", write_semantickitti(tmp_path / "bare", {"11": 1}))
    shutil.rmtree(bare.root / "sequences/11/labels")
    with pytest.raises(InputError, match="no sweep has labels"):
        runner.run(plans.labels(recipe, bare))


def test_similarity_maps_are_of_the_image_as_it_is(runner):
    """Whatever a student was trained with, and with the teacher's weights from where they lay."""
    crops = ImageAugmentation(scale=(0.3, 0.5), flip=1.0)
    step = pretrain_step(views="ipv", steps=1, cached_features=False, image_augmentation=crops)
    cropped = similarity(runner.store, runner.run(step).artifact, row=1, camera=0)
    still = similarity(runner.store, runner.run(pretrain_step(views="ipv", steps=1)).artifact, row=1, camera=0)
    assert cropped.uv == still.uv and cropped.depth_m == still.depth_m
    assert cropped.pixels is not None and cropped.pixels.shape == still.pixels.shape


def test_linear_probing_leaves_the_backbone_alone(runner):
    student = pretrain_step(views="ipv", steps=2)
    before = load_file(runner.run(student).artifact.path / "student.safetensors")
    cached = runner.run(finetune_step(NUSCENES, student, probe=True, steps=6))
    assert same(before, load_file(cached.artifact.path / "student.safetensors"))
    plain = runner.run(finetune_step(NUSCENES, student, probe=True, steps=6, cached_features=False))
    assert same(before, load_file(plain.artifact.path / "student.safetensors"))


def test_re_estimated_norms_change_the_statistics_alone(runner):
    def after(**changes):
        outcome = runner.run(finetune_step(NUSCENES, probe=True, steps=2, **changes))
        return load_file(outcome.artifact.path / "student.safetensors")

    plain, estimated = after(), after(reestimate_norm=True)
    changed = {name for name in plain if not torch.equal(plain[name], estimated[name])}
    assert changed
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed)


def test_fine_tuning_learns_what_it_is_shown(runner):
    step = finetune_step(NUSCENES, steps=40, batch=2, labels="2-frames")
    outcome = runner.run(step)
    import json

    history = json.loads((outcome.artifact.path / "history.json").read_text())
    assert history[-1]["cross_entropy"] < 0.5 * history[0]["cross_entropy"]
    seen = smoke().eval.with_(split="train", dataset="nuscenes")
    scored = runner.run(plans.evaluate(smoke(), NUSCENES, seen, step))
    assert scored.artifact.details["metrics"]["miou"] > 8  # a network that learnt nothing stays under 4


def test_the_loss_of_a_perfect_prediction_vanishes():
    """Both terms take raw scores: a softmax too many would keep the Lovasz term near 1."""
    label = torch.tensor([0, 1, 2, 255, 1])
    scores = 30 * torch.nn.functional.one_hot(label.clamp(max=2), 3).float()
    terms = losses(scores, label, lovasz=True)
    assert all(float(value) < 1e-6 for value in terms.values())
