"""Recipes: complete, strict, and laid over in the right order."""

import pytest

from hvd.errors import UsageError
from hvd.models.config import UNetConfig
from hvd.models.detector_config import KITTI_VOXELNET, SMALL_VOXELNET
from stages.graph import in_order
from stages.plans import Source
from stages.recipes import RECIPES, load
from stages.reproduce import reproduce


@pytest.mark.parametrize("student", ["unet", "voxelnet"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_own_json(name, student):
    recipe = load(name, student=student)
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe


def test_file_lies_over_recipe_and_set_over_file(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[pretrain]\nbatch = 8\nseed = 5\n")
    recipe = load("mini", file, ["pretrain.seed=7"])
    assert (recipe.pretrain.batch, recipe.pretrain.seed) == (8, 7)


def test_steps_and_epochs_displace_each_other():
    assert load("mini", None, ["pretrain.epochs=3"]).pretrain.steps is None
    assert load("paper", None, ["pretrain.steps=2"]).pretrain.epochs is None
    with pytest.raises(UsageError, match="steps or epochs"):
        load("mini", None, ["pretrain.steps=3", "pretrain.epochs=3"])


def test_views_are_read_with_blanks_too():
    assert load("mini", None, ["pretrain.views=bev, ipv"]).pretrain.views == ("ipv", "bev")


def test_another_optimiser_replaces_the_whole_table():
    optimizer = load("mini", None, ['pretrain.optimizer={"kind": "sgd", "lr": 0.5}']).pretrain.optimizer
    assert (optimizer.kind, optimizer.lr) == ("sgd", 0.5)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("pretrain.bev.wieght=1", "unknown option pretrain.bev.wieght; did you mean pretrain.bev.weight"),
        ("pretrane.batch=1", "unknown option pretrane; did you mean pretrain"),
        ("finetune.steps=1", "did you mean finetune.nuscenes.steps, finetune.semkitti.steps, finetune.kitti.steps?"),
        ("pretrain.lr=1", r"did you mean pretrain.optimizer.lr\?"),
        ("steps=1", r"did you mean pretrain.steps, .*, \.\.\.\?"),
        ("pretrain.optimizer.lr=abc", "bad value for pretrain.optimizer.lr"),
        ("pretrain.bev.weight=NaN", "bad value for pretrain.bev.weight"),
        ("pretrain.batch", "write --set stage.key=value"),
        ("pretrain.image_augmentation={}", "exclude each other"),
        ("features.height=64", "same teacher, height and width"),
        ("finetune.nuscenes.cached_features=true", "trains the head alone: set linear_probe"),
        ("probe.nuscenes.point_augmentation.rotation_deg=180", "features are cached unaugmented"),
        ("finetune.nuscenes.point_augmentation.drop_cuboid=0.2", "drop_cuboid is of pre-training"),
        ("probe.semkitti.optimizer.lr=0.5", "a linear probe trains the head alone: .*, set both"),
        ("probe.nuscenes.head_lr=0.5", "set both"),
        ("probe.nuscenes.amp=true", "cached_features and amp exclude each other"),
        ("study.rates=[]", "bad value for study.rates"),
        ("study.seeds=0", "bad value for study.seeds"),
    ],
)
def test_a_wrong_option_is_named(assignment, message):
    with pytest.raises(UsageError, match=message):
        load("mini", None, [assignment])


@pytest.mark.parametrize(
    "given", [["finetune=3", "finetune.kitti.steps=3"], ["finetune.kitti.steps=3", "finetune.kitti=3"]]
)
def test_a_value_and_a_table_under_one_name_are_refused(given):
    """Whichever comes first, the other would be lost."""
    with pytest.raises(UsageError, match="is set as a whole and in part"):
        load("mini", None, given)
    assert load("mini", None, ["pretrain.seed=1", "pretrain.seed=2"]).pretrain.seed == 2


def test_a_config_holds_only_what_can_matter():
    recipe = load("mini")
    ipv = recipe.pretrain.with_(views="ipv").only_views().resolved()
    assert "bev" not in ipv
    assert "ipv" in ipv
    changed = load("mini", None, ["pretrain.bev.weight=0.9"])
    assert changed.pretrain.with_(views="ipv").only_views().resolved() == ipv


def test_paper_numbers():
    """The paper's figures that a typo would change unseen."""
    pretrain = RECIPES["paper"]().pretrain
    assert pretrain.bev is not None
    assert pretrain.bev.depth_bins.count == 118
    assert round(2 * pretrain.range_m / pretrain.bev.cell_m) == 256
    assert (pretrain.optimizer.kind, pretrain.optimizer.lr, pretrain.epochs, pretrain.batch) == ("sgd", 0.5, 50, 16)
    assert (pretrain.bev.weight, pretrain.bev.depth_weight) == (0.25, 60.0)


@pytest.mark.parametrize(("name", "network"), [("paper", KITTI_VOXELNET), ("mini", SMALL_VOXELNET)])
def test_a_voxelnet_differs_from_its_detectors_in_the_range_alone(name, network):
    recipe, plain = load(name, student="voxelnet"), load(name)
    student = recipe.pretrain.student
    assert student.with_(range_min_m=network.range_min_m, range_max_m=network.range_max_m) == network
    assert (student.range_min_m, student.range_max_m) == ((-51.2, -51.2, -5.0), (51.2, 51.2, 3.8))
    assert recipe.pretrain.with_(student=plain.pretrain.student, bev=plain.pretrain.bev) == plain.pretrain
    assert recipe.with_(pretrain=plain.pretrain) == plain


def test_a_student_is_set_field_by_field_and_its_kind_by_name():
    stem = ["pretrain.student.stem=12"]
    unet, voxelnet = load("mini", None, stem).pretrain, load("mini", None, stem, student="voxelnet").pretrain
    assert isinstance(unet.student, UNetConfig) and unet.student.stem == 12
    assert voxelnet.student == load("mini", student="voxelnet").pretrain.student.with_(stem=12)
    own = ['pretrain.student.read=["conv4"]', "pretrain.student.voxel_size_m=[0.4, 0.4, 0.2]"]
    wider = ["pretrain.student.range_max_m=[51.2, 51.2, 6.2]"]
    student = load("mini", None, [*own, *wider], student="voxelnet").pretrain.student
    assert (student.read, student.shape, student.feature_channels) == (("conv4",), (256, 256, 57), 32)


@pytest.mark.parametrize(
    ("student", "assignment", "message"),
    [
        ("voxelnet", "pretrain.student.stagez=1", "pretrain.student.stagez; did you mean pretrain.student.stages"),
        ("unet", "pretrain.student.planez=1", "pretrain.student.planez; did you mean pretrain.student.planes"),
        ("voxelnet", "pretrain.student.planez=1", "unknown option pretrain.student.planez"),
        ("unet", "pretrain.student=voxelnet", r"bad value for pretrain.student \("),
        ("voxelnet", "pretrain.student.stem=x", "bad value for pretrain.student.stem "),
        ("voxelnet", "pretrain.student.voxel_size_m=[0.3,0.2,0.1]", "bad value for pretrain.student .*whole"),
        ("voxelnet", "pretrain.range_m=60", "more than the student's range"),
        ("voxelnet", "pretrain.z_max_m=4", "widen student.range_min_m and student.range_max_m"),
    ],
)
def test_a_wrong_student_is_named(student, assignment, message):
    with pytest.raises(UsageError, match=message) as caught:
        load("mini", None, [assignment], student=student)
    assert ".unet" not in str(caught.value) and ".voxelnet" not in str(caught.value)


def test_a_voxelnet_whose_range_needs_no_more_room_gets_none():
    wide = SMALL_VOXELNET.over((-1.6, -3.2, -3.0), (1.6, 3.2, 1.0))
    assert (wide.range_min_m, wide.range_max_m) == ((-1.6, -3.2, -3.0), (1.6, 3.2, 1.0))
    odd = SMALL_VOXELNET.over((-2.0, -3.2, -3.0), (2.0, 3.2, 1.1))
    assert odd.range_max_m == (2.8, 3.2, 2.6) and odd.shape == (24, 32, 57)


def tuned(dataset: str, *sets: str):
    """How `hvd finetune` learns a data set with `--set` assignments, `--labels` among them."""
    own = [item if item.startswith("by_labels.") else f"finetune.{dataset}.{item}" for item in sets]
    return getattr(load("mini", None, own, dataset=dataset, tunes=True).finetune, dataset)


def test_a_labelled_share_is_learnt_in_its_own_way():
    assert tuned("nuscenes", "labels=5%").steps == tuned("semkitti", "labels=5.0%").steps == 200
    assert load("mini", None, ["finetune.semkitti.labels=5%"], "semkitti", tunes=True).finetune.nuscenes.steps == 100
    few, usual = tuned("semkitti", "labels=1%"), tuned("semkitti", "labels=7%")
    assert few.optimizer.lr == 2 * usual.optimizer.lr and few.steps == usual.steps
    assert tuned("semkitti") == few, "1 % is what the recipe labels"
    for labels in ("1%", "7%", "12-frames"):
        assert tuned("nuscenes", f"labels={labels}") == load("mini").finetune.nuscenes.with_(labels=labels)


def test_what_is_laid_on_top_holds_for_every_share():
    assert tuned("nuscenes", "labels=5%", "steps=7").steps == 7
    shorter, chosen = tuned("semkitti", "steps=7"), tuned("semkitti")
    assert (shorter.steps, shorter.optimizer, shorter.head_lr) == (7, chosen.optimizer, chosen.head_lr)
    by_hand, usual = tuned("semkitti", "optimizer.lr=0.001"), load("mini").finetune.semkitti
    assert (by_hand.optimizer.lr, by_hand.head_lr) == (0.001, usual.head_lr), "not one by hand and one of the share's"
    epochs = tuned("nuscenes", "labels=5%", "epochs=2")
    assert (epochs.steps, epochs.epochs) == (None, 2)
    own = tuned("nuscenes", "labels=7%", 'by_labels.nuscenes=[{"labels": "7%", "steps": 11, "rate": 0.5}]')
    usual = load("mini").finetune.nuscenes
    assert (own.steps, own.optimizer.lr, own.head_lr) == (11, usual.optimizer.lr / 2, usual.head_lr / 2)


def test_steps_laid_on_top_hold_in_tables_too():
    """Where a recipe has fewer or more of its own."""
    plain, longer = load("mini"), load("mini", None, ["finetune.semkitti.steps=7"])
    assert plain.table.semkitti_steps and plain.by_labels.semkitti and plain.by_labels.nuscenes
    assert longer.table.semkitti_steps is None
    assert [(share.labels, share.steps, share.rate) for share in longer.by_labels.semkitti] == [
        (share.labels, None, share.rate) for share in plain.by_labels.semkitti
    ]
    assert longer.by_labels.nuscenes == plain.by_labels.nuscenes
    both = load("mini", None, ["finetune.semkitti.steps=7", "table.semkitti_steps=5"])
    assert both.table.semkitti_steps == 5
    (nuscenes, semkitti) = (Source("nuscenes"), Source("semkitti"))
    steps = {step.config.steps for step in in_order((reproduce(longer, nuscenes, semkitti),))
             if step.stage.name == "finetune" and step.config.dataset == "semkitti"}  # fmt: skip
    assert steps == {7}


def test_a_bad_share_is_refused():
    with pytest.raises(UsageError, match="bad labelled part 'many'"):
        tuned("nuscenes", "labels=many")
    for labels, why in (("rubbish", "bad labelled part"), ("12-frames", "give a share")):
        with pytest.raises(UsageError, match=f"by_labels.nuscenes.*{why}"):
            tuned("nuscenes", f'by_labels.nuscenes=[{{"labels": "{labels}", "steps": 7}}]')
