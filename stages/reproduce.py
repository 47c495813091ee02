"""The main job as one graph: pre-train, fine-tune, evaluate and tabulate random init, IPV and IPV + BEV. Torch-free."""

from stages import plans
from stages.graph import Step
from stages.plans import Source
from stages.recipe import Recipe
from stages.specs import TABLE, TableConfig
from stages.training_specs import FinetuneConfig

ROWS = {"random init": None, "IPV": ("ipv",), "IPV + BEV": ("ipv", "bev")}
RE_ESTIMATED = "random init, batch norm re-estimated"
# What a data set is called in the table: on the built-in world by its sensor, as in `hvd table`.
_REAL = {"nuscenes": "nuScenes", "semkitti": "SemanticKITTI"}
_LIKE = {"nuscenes": "nuScenes-like", "semkitti": "64-beam"}


def reproduce(recipe: Recipe, nuscenes: Source, semkitti: Source) -> Step:
    """The table's step; everything it needs hangs below it.

    Linear probing runs once a row; the labelled part is fine-tuned and evaluated once per seed.
    """
    cells: list[tuple[str, str, int]] = []
    steps: list[Step] = []

    def add(row: str, column: str, source: Source, config: FinetuneConfig, student: Step | None) -> None:
        model = plans.finetune(recipe, source, config, student)
        cells.append((row, column, config.seed))
        steps.append(plans.evaluate(recipe, source, recipe.eval, model))

    semkitti_steps = recipe.table.semkitti_steps
    shorter = {} if semkitti_steps is None else {"steps": semkitti_steps, "epochs": None}
    tuned = {"nuscenes": recipe.finetune.nuscenes, "semkitti": recipe.finetune.semkitti.with_(**shorter)}
    probe_name = f"{_name(nuscenes)} linear probe"
    for row, views in ROWS.items():
        student = None
        if views is not None:
            config = recipe.pretrain.with_(views=views, seed=recipe.table.pretrain_seed)
            student = plans.pretrain(recipe, nuscenes, config)
        probe = recipe.probe.nuscenes
        add(row, probe_name, nuscenes, probe, student)
        if student is None:
            add(RE_ESTIMATED, probe_name, nuscenes, probe.with_(reestimate_norm=True), None)
        for seed in recipe.table.seeds:
            for source in (nuscenes, semkitti):
                tune = tuned[source.dataset].with_(seed=seed)
                add(row, f"{_name(source)} {tune.labels}", source, tune, student)
    inputs = tuple((f"cell{index:03d}", step) for index, step in enumerate(steps))
    return Step(TABLE, TableConfig(cells=tuple(cells)), inputs)


def _name(source: Source) -> str:
    return (_REAL if source.root else _LIKE)[source.dataset]
