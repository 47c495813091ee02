"""Learning rates for the study, chosen without a look at validation: as many trials for every row and column.

A trial fine-tunes a row's student of pre-training seed 0 as its column says, on the training scenes that `parametrize`
leaves, and is scored on those that it holds out. Torch-free.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.graph import Step
from stages.recipe import Recipe
from stages.study import COLUMNS, ROWS, Rates, Setup, evaluation, measured, plan_digest, student_of, tuned

SEED = 0


@dataclass(frozen=True)
class Trial:
    """One rate for one row and column, and the evaluation that judges it."""

    row: str
    column: str
    rate: float  # times the recipe's learning rates
    step: Step
    plan: str


def trials(setup: Setup) -> Iterator[Trial]:
    """All trials; none where the recipe has one rate alone."""
    rates = setup.recipe.study.rates
    if len(rates) == 1:
        return
    for row in ROWS:
        for column in COLUMNS:
            if not measured(setup.recipe, row, column, SEED):
                continue
            for rate in rates:
                config = tuned(setup.recipe, column, rate).with_(splits="parametrize", seed=SEED, label_offset=0)
                step = evaluation(setup, column, config, student_of(setup, row, column, SEED))
                yield Trial(row, column.name, rate, step, plan_digest(step))


def chosen(recipe: Recipe, found: Iterable[Mapping[str, Any]]) -> Rates:
    """The best rate by row and column, of the trials `found`; of equals the one that the recipe names first."""
    order = recipe.study.rates
    best: dict[tuple[str, str], tuple[float, int]] = {}
    for trial in found:
        place = trial["row"], trial["column"]
        score = trial["value"], -order.index(trial["rate"])
        best[place] = max(best.get(place, score), score)
    return {place: order[-negative] for place, (_, negative) in best.items()}
