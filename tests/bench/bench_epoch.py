"""Pre-training steps with cached teacher features against recomputing them from the images in every step."""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from cache.store import Store
from stages import plans
from stages.plans import Source
from stages.recipes import mini, smoke
from stages.runner import Runner
from stages.runtime import Runtime

STEPS = 6


def run() -> list[dict[str, Any]]:
    """Seconds a step on the frames of the smallest built-in world, at the mini recipe's image and network sizes."""
    base, few = mini(), smoke()
    recipe = base.with_(world=few.world, pretrain=base.pretrain.with_(steps=STEPS, views="ipv"))
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Store(Path(folder)), Runtime(device="cpu", workers=0))
        source = Source("nuscenes")
        for step in (plans.features(recipe, source), plans.superpixels(recipe, source), plans.frames(recipe, source)):
            runner.run(step)
        cached = _seconds(runner, recipe.pretrain)
        recomputed = _seconds(runner, recipe.pretrain.with_(cached_features=False))
    ratio = recomputed / cached
    return [
        {"name": "pre-training step, cached teacher features", "plain_s": recomputed, "ours_s": cached, "ratio": ratio}
    ]


def _seconds(runner: Runner, config: Any) -> float:
    """Median seconds of a step: loading, forward, backward, update."""
    from stages import pretrain as stage
    from stages.training import build_optimizer

    recipe = mini().with_(world=smoke().world)
    inputs = {name: runner.run(node).artifact.path for name, node in _inputs(recipe).items()}
    data = stage.open_data(config, inputs)
    networks = stage.build_networks(config)
    teacher = None if config.cached_features else stage.build_teacher(config.teacher)
    optimizer = build_optimizer(config.optimizer, [(networks, config.optimizer.lr)])
    times = []
    for step in range(STEPS):
        start = time.perf_counter()
        batch = data.batch([(step * config.batch + i) % len(data.frames) for i in range(config.batch)], step)
        optimizer.zero_grad(set_to_none=True)
        loss, _ = stage.losses(config, networks, teacher, batch, (step, 0))
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _inputs(recipe: Any) -> dict[str, Any]:
    source = Source("nuscenes")
    names = ("frames", "superpixels", "images", "features")
    return {name: getattr(plans, name)(recipe, source) for name in names}


if __name__ == "__main__":
    sys.stdout.write(f"{run()}\n")
