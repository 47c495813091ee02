"""The study behind the paper's claim on the built-in world: rows, columns and seeds, and what fills them. Torch-free.

The unit of every statistic is the pre-training seed: seed i of fine-tuning takes the student of pre-training seed i and
label offset i.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from cache.key import digest_of_file, key_of
from hvd.errors import UsageError
from stages import plans
from stages.graph import Data, File, Node, Step, Stored
from stages.plans import Source
from stages.recipe import Recipe, at_rate, for_data_set, for_labels
from stages.specs import DatasetName
from stages.training_specs import DetectFinetuneConfig, FinetuneConfig, PretrainConfig

Rates = Mapping[tuple[str, str], float]  # times the recipe's learning rates, by row and column

RANDOM, IPV, HVDISTILL = "random init", "IPV", "IPV + BEV"
LONGER_IPV, BEV, UNIFORM = "IPV, time of IPV + BEV", "BEV", "BEV, uniform depth"
RELEASE = "IPV + BEV, release's geometry"
PARTS = ((HVDISTILL, LONGER_IPV), (HVDISTILL, RELEASE), (BEV, UNIFORM))  # rows that one part of the method tells apart


@dataclass(frozen=True)
class Setup:
    """What the study is made of: the recipe, the same with a VoxelNet for a student, and where the data sets are."""

    recipe: Recipe
    voxelnet: Recipe
    sources: Mapping[DatasetName, Source]


class Column(NamedTuple):
    """What is measured on the students of a row: mIoU, or on kitti the mean average precision of a detector."""

    name: str
    dataset: DatasetName
    labels: str
    probe: bool = False
    few: bool = False  # fewer seeds
    rows: tuple[str, ...] = ()  # these alone; all without


COLUMNS = (
    Column("nuScenes-like linear probe", "nuscenes", "100%", probe=True),
    Column("nuScenes-like 1%", "nuscenes", "1%"),
    Column("64-beam 1%", "semkitti", "1%"),
    Column("nuScenes-like 5%", "nuscenes", "5%", few=True),
    Column("nuScenes-like 10%", "nuscenes", "10%", few=True),
    Column("64-beam 10%", "semkitti", "10%", few=True),
    Column("nuScenes-like 100%", "nuscenes", "100%", few=True, rows=(RANDOM, HVDISTILL)),
    *(
        Column(f"KITTI-like {labels}, mAP", "kitti", labels, few=True, rows=(RANDOM, IPV, HVDISTILL))
        for labels in ("5%", "10%", "20%")
    ),
)

# In this order are they measured: over all seeds, over fewer, and those that need students of another kind.
COLUMN_GROUPS = tuple(
    tuple(column.name for column in columns)
    for _, columns in groupby(COLUMNS, key=lambda column: (column.few, column.dataset == "kitti"))
)


def _views(*views: str) -> Callable[[Recipe], PretrainConfig]:
    return lambda recipe: recipe.pretrain.with_(views=views)


def _ppkt(recipe: Recipe) -> PretrainConfig:
    assert recipe.pretrain.ipv is not None
    return recipe.pretrain.with_(views=("ipv",), ipv=recipe.pretrain.ipv.with_(method="ppkt"))


def _longer(recipe: Recipe) -> PretrainConfig:
    """IPV for about as long as both views take."""
    if recipe.pretrain.steps is None:
        raise UsageError("the study counts pre-training in steps", hint="set pretrain.steps, not epochs")
    return recipe.pretrain.with_(views=("ipv",), steps=round(recipe.study.equal_time * recipe.pretrain.steps))


def _with_bev(views: tuple[str, ...], **changes: Any) -> Callable[[Recipe], PretrainConfig]:
    def build(recipe: Recipe) -> PretrainConfig:
        assert recipe.pretrain.bev is not None
        return recipe.pretrain.with_(views=views, bev=recipe.pretrain.bev.with_(**changes))

    return build


ROWS: Mapping[str, Callable[[Recipe], PretrainConfig] | None] = {
    RANDOM: None,
    "PPKT": _ppkt,
    IPV: _views("ipv"),
    LONGER_IPV: _longer,
    BEV: _views("bev"),
    # A uniform bin weighs less than the least weight that the learnt depth keeps.
    UNIFORM: _with_bev(("bev",), depth="uniform", min_weight=0.0),
    HVDISTILL: _views("ipv", "bev"),
    RELEASE: _with_bev(("ipv", "bev"), geometry="release"),
}


@dataclass(frozen=True)
class Cell:
    """One value of the table: which, and the evaluation that gives it."""

    row: str
    column: str
    seed: int
    step: Step
    plan: str  # what stands for `step` with everything below it, in whatever store


def cells(setup: Setup, rates: Rates) -> Iterator[Cell]:
    """All cells, seed by seed.

    Args:
        setup: what is run, on what.
        rates: what `stages.tuning` chose; a row and column that it does not name takes the recipe's first rate.
    """
    for seed in range(setup.recipe.study.seeds):
        for row in ROWS:
            for column in COLUMNS:
                if not measured(setup.recipe, row, column, seed):
                    continue
                rate = rates.get((row, column.name), setup.recipe.study.rates[0])
                config = tuned(setup.recipe, column, rate).with_(seed=seed, label_offset=0 if column.probe else seed)
                step = evaluation(setup, column, config, student_of(setup, row, column, seed))
                yield Cell(row, column.name, seed, step, plan_digest(step))


def student_of(setup: Setup, row: str, column: Column, seed: int) -> Step | None:
    """The pre-training of a row, of the kind that a column needs; None for random init."""
    build = ROWS[row]
    recipe = setup.voxelnet if column.dataset == "kitti" else setup.recipe
    return None if build is None else plans.pretrain(recipe, setup.sources["nuscenes"], build(recipe).with_(seed=seed))


def evaluation(
    setup: Setup, column: Column, config: FinetuneConfig | DetectFinetuneConfig, student: Step | None
) -> Step:
    """Fine-tuning as `config` says, scored on the validation part of the same kind of splits."""
    recipe, source = for_data_set(setup.recipe, column.dataset), setup.sources[column.dataset]
    judge = recipe.eval_detection if isinstance(config, DetectFinetuneConfig) else recipe.eval
    model = plans.finetune(recipe, source, config, student)
    return plans.evaluate(recipe, source, judge.with_(splits=config.splits), model)


def measured(recipe: Recipe, row: str, column: Column, seed: int) -> bool:
    """Whether the study has this cell."""
    seeds = recipe.study.few_seeds if column.few else recipe.study.seeds
    return seed < seeds and (not column.rows or row in column.rows)


def tuned(recipe: Recipe, column: Column, rate: float) -> FinetuneConfig | DetectFinetuneConfig:
    """How a column's labelled part is learnt, at `rate` times the recipe's learning rates."""
    if column.probe:
        return at_rate(getattr(recipe.probe, column.dataset), rate)
    return for_labels(recipe, column.dataset, column.labels, rate)


@cache
def plan_digest(step: Step) -> str:
    """SHA-256 (hex) over a step's stage, version and configuration and, recursively, its inputs'.

    It says what was planned, before anything is run and in whatever store; a key says what went in, byte for byte.
    """
    inputs = {name: _digest(node) for name, node in step.inputs}
    stage = step.stage
    return key_of({"stage": stage.name, "version": stage.version, "config": step.config.resolved(), "inputs": inputs})


def _digest(node: Node) -> str:
    match node:
        case Step():
            return plan_digest(node)
        case Data():
            origin = plan_digest(node.world) if node.world else str(node.root)
            return key_of({"data": node.dataset, "version": node.version, "part": node.part, "origin": origin})
        case File():
            return digest_of_file(node.path)
        case Stored():
            return node.key
