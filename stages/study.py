"""The study behind the paper's claim on the built-in world: rows, columns and seeds, and what fills them. Torch-free.

The unit of every statistic is the pre-training seed: seed i of fine-tuning takes the student of pre-training seed i and
label offset i.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from cache.key import digest_of_file, key_of
from stages import plans
from stages.graph import Data, File, Node, Step, Stored
from stages.plans import Source
from stages.recipes import Recipe
from stages.specs import DatasetName, FinetuneConfig, PretrainConfig

Rates = Mapping[tuple[str, str], float]  # times the recipe's learning rates, by row and column

RANDOM, IPV, HVDISTILL = "random init", "IPV", "IPV + BEV"


class Column(NamedTuple):
    """What is measured on the students of a row."""

    name: str
    dataset: DatasetName
    labels: str
    probe: bool = False
    few: bool = False  # fewer seeds
    ends_only: bool = False  # random init and HVDistill alone


COLUMNS = (
    Column("nuScenes-like linear probe", "nuscenes", "100%", probe=True),
    Column("nuScenes-like 1%", "nuscenes", "1%"),
    Column("64-beam 1%", "semkitti", "1%"),
    Column("nuScenes-like 5%", "nuscenes", "5%", few=True),
    Column("nuScenes-like 10%", "nuscenes", "10%", few=True),
    Column("64-beam 10%", "semkitti", "10%", few=True),
    Column("nuScenes-like 100%", "nuscenes", "100%", few=True, ends_only=True),
)


def _views(*views: str) -> Callable[[Recipe], PretrainConfig]:
    return lambda recipe: recipe.pretrain.with_(views=views)


def _ppkt(recipe: Recipe) -> PretrainConfig:
    assert recipe.pretrain.ipv is not None
    return recipe.pretrain.with_(views=("ipv",), ipv=recipe.pretrain.ipv.with_(method="ppkt"))


def _longer(recipe: Recipe) -> PretrainConfig:
    """IPV for about as long as both views take."""
    assert recipe.pretrain.steps is not None
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
    "IPV, time of IPV + BEV": _longer,
    "BEV": _views("bev"),
    # A uniform bin weighs less than the least weight that the learnt depth keeps.
    "BEV, uniform depth": _with_bev(("bev",), depth="uniform", min_weight=0.0),
    HVDISTILL: _views("ipv", "bev"),
    "IPV + BEV, release's geometry": _with_bev(("ipv", "bev"), geometry="release"),
}


@dataclass(frozen=True)
class Cell:
    """One value of the table: which, and the evaluation that gives it."""

    row: str
    column: str
    seed: int
    step: Step
    plan: str  # what stands for `step` with everything below it, in whatever store


def cells(recipe: Recipe, nuscenes: Source, semkitti: Source, rates: Rates) -> Iterator[Cell]:
    """All cells, seed by seed: whoever stops after a seed has the whole table for fewer seeds.

    Args:
        recipe, nuscenes, semkitti: what is run, on what.
        rates: what `stages.tuning` chose; a row and column that it does not name takes the recipe's first rate.
    """
    sources = {"nuscenes": nuscenes, "semkitti": semkitti}
    for seed in range(recipe.study.seeds):
        for row in ROWS:
            student = student_of(recipe, row, nuscenes, seed)
            for column in COLUMNS:
                if not measured(recipe, row, column, seed):
                    continue
                rate = rates.get((row, column.name), recipe.study.rates[0])
                config = tuned(recipe, column, rate).with_(seed=seed, label_offset=0 if column.probe else seed)
                model = plans.finetune(recipe, sources[column.dataset], config, student)
                step = plans.evaluate(recipe, sources[column.dataset], recipe.eval, model)
                yield Cell(row, column.name, seed, step, plan_digest(step))


def student_of(recipe: Recipe, row: str, source: Source, seed: int) -> Step | None:
    """The pre-training of a row; None for random init."""
    build = ROWS[row]
    return None if build is None else plans.pretrain(recipe, source, build(recipe).with_(seed=seed))


def measured(recipe: Recipe, row: str, column: Column, seed: int) -> bool:
    """Whether the study has this cell."""
    seeds = recipe.study.few_seeds if column.few else recipe.study.seeds
    return seed < seeds and (row in (RANDOM, HVDISTILL) or not column.ends_only)


def tuned(recipe: Recipe, column: Column, rate: float) -> FinetuneConfig:
    """How a column's labelled part is learnt, at `rate` times the recipe's learning rates."""
    base: FinetuneConfig = getattr(recipe.probe if column.probe else recipe.finetune, column.dataset)
    if not column.probe:
        base = base.with_(labels=column.labels, steps=dict(recipe.study.steps)[column.labels])
    optimizer = base.optimizer.with_(lr=rate * base.optimizer.lr)
    return base.with_(optimizer=optimizer, head_lr=rate * base.head_lr)


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
