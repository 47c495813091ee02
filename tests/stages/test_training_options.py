"""Each option of a training does something, and does it where it should: a loop that ignored one would look well."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvd.datasets.augment_config import ImageAugmentation
from hvd.datasets.labels import SEMANTICKITTI
from hvd.datasets.segmentation import SegmentationData
from hvd.datasets.student_voxels import MovingVoxels
from hvd.models.student import save_student
from hvd.models.unet import SparseUNet
from stages import evaluate, finetune, plans, pretrain
from stages.graph import File
from stages.recipes import STILL, smoke
from stages.runner import Runner
from stages.training_specs import Sgd
from tests.datasets.two_frames import write_two_frames
from tests.stages.test_trainings import NUSCENES, SEMKITTI, finetune_step, pretrain_step

PLAIN = smoke().pretrain


def figures(runner: Runner, step) -> dict[str, float]:
    return Runner(runner.store, runner.runtime).run(step).artifact.details["metrics"]


def one_step(**changes):
    """One step on two frames, unaugmented, without changing a weight: its figures tell what the loss was."""
    still = {"point_augmentation": STILL, "steps": 1, "optimizer": PLAIN.optimizer.with_(lr=1e-12)}
    return pretrain_step(**{**still, **changes})


@pytest.fixture(scope="module")
def first_loss():
    return {}


@pytest.mark.parametrize(
    ("term", "changes"),
    [
        ("ipv", {"temperature": 0.2}),
        ("bev", {"temperature": 0.2}),
        ("ipv", {"occlusion_filter": True}),
        ("ipv", {"range_m": 25.6}),
        ("ipv", {"z_max_m": 0.0}),
        ("ipv", {"point_augmentation": PLAIN.point_augmentation}),
        ("ipv", {"seed": 1}),
        ("ipv", {"split": "val"}),
        ("ipv", {"cached_features": False, "image_augmentation": ImageAugmentation()}),
        ("ipv", {"ipv": {"method": "ppkt", "pairs": 64}}),
        ("ipv", {"ipv": {"full_resolution": True}}),
        ("bev", {"bev": {"cells": 32}}),
        ("bev", {"bev": {"cell_m": 1.6}}),
        ("bev", {"bev": {"depth": "uniform", "min_weight": 0.0}}),
        ("bev", {"bev": {"lift": None}}),
        ("bev", {"bev": {"min_voxels": None, "weigh_up_to": None}}),
        ("bev", {"bev": {"min_weight": 0.2}}),
        ("depth", {"bev": {"depth_loss": "bce"}}),
    ],
    ids=str,
)
def test_each_option_of_pre_training_changes_its_term(runner, first_loss, term, changes):
    parts = {view: getattr(PLAIN, view).with_(**changes.pop(view)) for view in ("ipv", "bev") if view in changes}
    if not first_loss:
        first_loss.update(figures(runner, one_step()))
    found = figures(runner, one_step(**changes, **parts))[term]
    assert abs(found - first_loss[term]) > 1e-4


def test_the_release_s_geometry_is_wrong_where_points_are_augmented(runner):
    bev = PLAIN.bev.with_(geometry="release")
    for augmentation, differs in ((STILL, False), (PLAIN.point_augmentation, True)):
        exact = figures(runner, one_step(point_augmentation=augmentation))
        release = figures(runner, one_step(point_augmentation=augmentation, bev=bev))
        assert (abs(exact["bev"] - release["bev"]) > 1e-4) == differs


def test_cached_features_are_those_of_the_teacher(runner):
    cached, fresh = (figures(runner, one_step(cached_features=cached)) for cached in (True, False))
    for term in ("ipv", "bev", "depth"):
        assert fresh[term] == pytest.approx(cached[term], rel=1e-3)


def test_the_loss_is_the_weighted_sum_of_its_terms(runner):
    bev = PLAIN.bev.with_(weight=3.0, depth_weight=5.0)
    found = figures(runner, one_step(ipv=PLAIN.ipv.with_(weight=2.0), bev=bev))
    expected = 2 * found["ipv"] + 3 * found["bev"] + 5 * found["depth"]
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_is_the_mean_of_its_parts_at_the_schedule_s_rate(runner, monkeypatch, accumulate):
    """A loss that is one weight has gradient 1: plain descent moves it by the rate, however many parts there are."""

    def one_weight(config, networks, teacher, batch, step):
        loss = next(networks.student.parameters()).flatten()[0]
        return loss, {"loss": loss}

    monkeypatch.setattr(pretrain, "losses", one_weight)
    descent = Sgd(lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0)
    ends = []
    for lr in (0.5, 1e-12):
        step = pretrain_step(steps=1, accumulate=accumulate, optimizer=descent.with_(lr=lr))
        folder = Runner(runner.store, runner.runtime).run(step).artifact.path
        ends.append(load_file(folder / "student.safetensors"))
    moved = {name: (ends[1][name] - ends[0][name]).abs().max().item() for name in ends[0] if "weight" in name}
    assert max(moved.values()) == pytest.approx(0.5, rel=1e-4)


def test_each_step_draws_pairs_and_cells_of_its_own(runner, monkeypatch):
    seen = []
    plain = pretrain.seeding.torch_generator
    monkeypatch.setattr(pretrain.seeding, "torch_generator", lambda *words: seen.append(words) or plain(*words))
    figures(runner, pretrain_step(steps=2, ipv=PLAIN.ipv.with_(method="ppkt", pairs=64)))
    drawn = [words for words in seen if words[1] in ("ppkt", "bev")]
    assert drawn == [(0, name, step, 0) for step in (0, 1) for name in ("ppkt", "bev")]


@pytest.fixture
def student(tmp_path) -> File:
    """A U-Net's weights that no new model begins with."""
    torch.manual_seed(5)
    save_student(tmp_path / "student.safetensors", SparseUNet(PLAIN.student), PLAIN.student)
    return File(tmp_path / "student.safetensors")


def trained(runner: Runner, **changes) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Backbone and head after a fine-tuning."""
    folder = Runner(runner.store, runner.runtime).run(finetune_step(SEMKITTI, **changes)).artifact.path
    return load_file(folder / "student.safetensors"), load_file(folder / "head.safetensors")


def moved_by(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest change of a trained weight."""
    names = [name for name in one if name.endswith(("weight", "bias"))]
    assert one.keys() == other.keys() and names
    return max(float((one[name] - other[name]).abs().max()) for name in names)


def test_fine_tuning_begins_with_the_student_and_each_part_has_its_rate(runner, student):
    optimizer = smoke().finetune.semkitti.optimizer.with_(weight_decay=0.0)
    slow, fast = optimizer.with_(lr=1e-12), optimizer.with_(lr=3e-3)
    given = load_file(student.path)
    still, head = trained(runner, student=student, optimizer=slow, head_lr=3e-3)
    scratch, _ = trained(runner, optimizer=slow, head_lr=3e-3)
    turned, kept = trained(runner, student=student, optimizer=fast, head_lr=1e-12)
    assert moved_by(still, given) < 1e-9 < 0.01 < moved_by(scratch, given)
    assert moved_by(turned, given) > 1e-3
    assert moved_by(head, kept) > 1e-3
    means = [name for name in given if name.endswith("running_mean")]
    assert means and any(not torch.equal(still[name], given[name]) for name in means), "batch norm sees the batches"


@pytest.mark.parametrize(
    "changes",
    [
        {"lovasz": False},
        {"point_augmentation": STILL},
        {"label_offset": 1},
        {"seed": 1},
        {"split": "val"},
        {"batch": 2},
    ],
    ids=str,
)
def test_each_option_of_fine_tuning_changes_its_loss(runner, changes):
    usual = {"steps": 1, "labels": "2-frames"}
    plain, other = (figures(runner, finetune_step(SEMKITTI, **{**usual, **more})) for more in ({}, changes))
    assert abs(plain["loss"] - other["loss"]) > 1e-5
    if "lovasz" in changes:
        assert plain["loss"] == pytest.approx(plain["cross_entropy"] + plain["lovasz"], rel=1e-5)
        assert other["loss"] == other["cross_entropy"]


def test_each_step_of_fine_tuning_is_augmented_anew(runner, monkeypatch):
    seen = []
    plain = SegmentationData.batch

    def watch(self, rows, augmentation=None, seed=(0, 0)):
        seen.append((augmentation, seed))
        return plain(self, rows, augmentation, seed)

    monkeypatch.setattr(SegmentationData, "batch", watch)
    step = finetune_step(SEMKITTI, steps=3)
    figures(runner, step)
    assert seen == [(step.config.point_augmentation, (0, number)) for number in range(3)]


def test_a_model_is_scored_with_the_statistics_it_learnt(runner, monkeypatch):
    modes = []
    plain = evaluate.predict

    def watch(backbone, head, *rest):
        modes.append((backbone.training, head.training))
        return plain(backbone, head, *rest)

    monkeypatch.setattr(evaluate, "predict", watch)
    recipe = smoke()
    figures(runner, plans.evaluate(recipe, NUSCENES, recipe.eval, finetune_step(NUSCENES, steps=1)))
    assert modes and set(modes) == {(False, False)}


def test_re_estimated_statistics_are_the_mean_over_the_frames(tmp_path):
    write_two_frames(tmp_path)
    data = SegmentationData(tmp_path / "frames", None, SEMANTICKITTI, MovingVoxels(0.5))
    torch.manual_seed(0)
    network = SparseUNet(smoke().finetune.semkitti.student)
    stem, seen = network.stem.norm, []
    momentum = stem.momentum
    stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean(0)))
    finetune.reestimate_norm(network, data, [0, 1], torch.device("cpu"))
    torch.testing.assert_close(stem.running_mean, torch.stack(seen).mean(0))
    assert {layer.momentum for layer in network.modules() if isinstance(layer, nn.BatchNorm1d)} == {momentum}
