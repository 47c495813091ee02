"""What a dry run says of frames, steps and disk, against worlds that were made and against answers by hand."""

from collections import Counter

import pytest

from cache.store import Store
from hvd.datasets.listing import list_frames
from hvd.errors import InputError, UsageError
from stages import plans
from stages.costs import Cost, planned_listing
from stages.plans import Source
from stages.recipe import Recipe
from stages.recipes import load, smoke
from stages.runner import Runner

NUSCENES, SEMKITTI = Source("nuscenes"), Source("semkitti")


def costs(runner: Runner, *steps) -> dict[str, Cost]:
    return {row.step.stage.name: row.cost for row in runner.status(steps)}


@pytest.fixture
def fresh(tmp_path) -> Runner:
    return Runner(Store(tmp_path / "store"))


@pytest.mark.parametrize("source", [NUSCENES, SEMKITTI])
def test_a_world_is_listed_before_it_is_made_as_it_is_afterwards(prepared, source):
    runner = Runner(Store(prepared))
    step = plans.world(smoke(), source)
    runner.status((step,))
    made = list_frames(runner.done[step].artifact.path, source.dataset, source.full_version)
    planned = planned_listing(step.config)
    assert Counter(made.scenes) == Counter(planned.scenes)
    assert made.cameras == planned.cameras
    assert 0.5 * planned.points < made.points <= planned.points, "some rays meet nothing"
    for kind in ("paper", "parametrize"):
        for split in ("train", "val", "all"):
            assert len(made.rows(kind, split)) == len(planned.rows(kind, split))


def test_sizes_by_hand(fresh):
    recipe = load("mini")
    found = costs(fresh, *plans.prep(recipe, NUSCENES))
    images, points = 240 * 6, 240 * 32 * 540
    assert found["images"] == Cost(240, None, images * 128 * 224 * 3)
    assert found["superpixels"] == Cost(240, None, images * 128 * 224 * 2)
    assert found["features"] == Cost(240, None, images * 32 * 56 * 472 * 2)
    assert found["labels"] == Cost(240, None, points * 2)
    assert found["frames"] == Cost(240, None, points * (16 + 17) + images * 32 * 56 * 4)


def test_steps_by_hand(fresh):
    base = load("mini").model_dump()

    def steps(labels: str, source: Source) -> Cost:
        recipe = Recipe.model_validate(base)
        config = getattr(recipe.finetune, source.dataset).with_(steps=None, epochs=3, batch=2, labels=labels)
        return costs(fresh, plans.finetune(recipe, source, config, None))["finetune"]

    assert steps("1%", NUSCENES) == Cost(2, 3, None)  # one scene of a hundred, two frames
    assert steps("10%", NUSCENES) == Cost(20, 30, None)
    assert steps("1%", SEMKITTI) == Cost(2, 3, None)  # two frames of two hundred
    assert steps("7-frames", SEMKITTI) == Cost(7, 11, None)
    with pytest.raises(UsageError, match="only 200 frames"):
        steps("201-frames", SEMKITTI)


def test_what_is_there_costs_nothing(prepared):
    found = costs(Runner(Store(prepared)), *plans.prep(smoke(), SEMKITTI), plans.pretrain(smoke(), NUSCENES))
    assert found["frames"] == Cost()
    assert found["pretrain"] == Cost(8, 2, None)


def test_prepared_arrays_are_about_as_large_as_planned(prepared):
    """Before compression: at least what is on the disk, and not many times as much."""
    recipe, store = smoke(), Store(prepared)
    planned = costs(Runner(Store(prepared / "none")), *plans.prep(recipe, NUSCENES))
    for stage, dearest in (("features", 2), ("images", 4), ("frames", 4)):
        on_disk = max(item.size_bytes for item in store.artifacts(stage))
        assert on_disk < planned[stage].size_bytes < dearest * on_disk, stage


def test_recorded_data(fresh, real_data):
    source = Source("nuscenes", real_data("nuscenes"), "v1.0-mini")
    found = costs(fresh, *plans.prep(load("paper"), source))
    assert found["images"] == Cost(1, None, 6 * 448 * 800 * 3)
    assert found["labels"].size_bytes == 2 * 34_688
    with pytest.raises(InputError, match="holds no frame"):
        costs(fresh, plans.finetune(load("paper"), source, load("paper").finetune.nuscenes.with_(split="val"), None))
