"""Recipes: complete, strict, and laid over in the right order."""

import pytest

from hvd.errors import UsageError
from stages.recipes import RECIPES, load


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_own_json(name):
    recipe = RECIPES[name]()
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


def test_another_optimiser_replaces_the_whole_table():
    optimizer = load("mini", None, ['pretrain.optimizer={"kind": "sgd", "lr": 0.5}']).pretrain.optimizer
    assert (optimizer.kind, optimizer.lr) == ("sgd", 0.5)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("pretrain.bev.wieght=1", "unknown option pretrain.bev.wieght; did you mean pretrain.bev.weight"),
        ("pretrane.batch=1", "unknown option pretrane; did you mean pretrain"),
        ("pretrain.optimizer.lr=abc", "bad value for pretrain.optimizer.lr"),
        ("pretrain.bev.weight=NaN", "bad value for pretrain.bev.weight"),
        ("pretrain.batch", "write --set stage.key=value"),
        ("pretrain.image_augmentation={}", "exclude each other"),
        ("features.height=64", "same teacher, height and width"),
    ],
)
def test_a_wrong_option_is_named(assignment, message):
    with pytest.raises(UsageError, match=message):
        load("mini", None, [assignment])


def test_a_config_holds_only_what_can_matter():
    recipe = load("mini")
    ipv = recipe.pretrain.with_(views="ipv").only_views().resolved()
    assert "bev" not in ipv
    assert "ipv" in ipv
    changed = load("mini", None, ["pretrain.bev.weight=0.9"])
    assert changed.pretrain.with_(views="ipv").only_views().resolved() == ipv


def test_paper_numbers():
    """The figures of method.md, sections 3 to 6, that a typo would change unseen."""
    pretrain = RECIPES["paper"]().pretrain
    assert pretrain.bev is not None
    assert pretrain.bev.depth_bins.count == 118
    assert round(2 * pretrain.range_m / pretrain.bev.cell_m) == 256
    assert (pretrain.optimizer.kind, pretrain.optimizer.lr, pretrain.epochs, pretrain.batch) == ("sgd", 0.5, 50, 16)
    assert (pretrain.bev.weight, pretrain.bev.depth_weight) == (0.25, 60.0)
