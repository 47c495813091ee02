"""What joins the parts of pre-training: which frames a step takes, where pixels and points meet, what is reported."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hvd.training import loading, optim
from stages import pretrain
from stages.recipes import smoke
from stages.runtime import Runtime
from stages.training_specs import PretrainConfig

PLAIN = smoke().pretrain
HEIGHT, WIDTH = 8, 32


class Enough(Exception):
    """Ends a training that was looked at for long enough."""


def test_each_part_of_a_step_takes_the_next_frames_and_a_draw_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone on with after the first of three steps of two parts each."""
    config = PLAIN.with_(batch=4, accumulate=2, steps=3)
    asked: list[tuple[list[int], int]] = []
    shares: list[float] = []

    class Counted:
        step = 1

        def __init__(self, *_: Any) -> None:
            pass

        def advance(self, share: float, *_: Any) -> None:
            shares.append(share)
            Counted.step += 1
            if Counted.step == config.steps:
                raise Enough

    def losses(config: PretrainConfig, networks: torch.nn.Module, *_: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return next(networks.parameters()).sum(), {"loss": torch.zeros(())}

    frames = SimpleNamespace(
        tokens=tuple("abcdefgh"), scenes=("s",) * 8, num_pairs=np.ones(8), attributes={"cameras": ["x"] * 6}
    )
    data = SimpleNamespace(frames=frames, batch=lambda rows, draw: asked.append((rows, draw)))
    monkeypatch.setattr(pretrain, "open_data", lambda *_: data)
    monkeypatch.setattr(pretrain, "rows_of", lambda *_: list(range(8)))
    monkeypatch.setattr(pretrain, "moved", lambda *_: SimpleNamespace(tokens=()))
    monkeypatch.setattr(pretrain, "losses", losses)
    monkeypatch.setattr(pretrain, "Training", Counted)
    work: Any = SimpleNamespace(scratch=None)
    with pytest.raises(Enough):
        pretrain.run(config, {"frames": Path()}, work, Runtime("cpu", 0))
    order = loading.Order(8, 4, config.seed)
    halves = ((step, part) for step in (1, 2) for part in (0, 1))
    assert asked == [(order.batch(step)[2 * part : 2 * part + 2], 2 * step + part) for step, part in halves]
    assert shares == [optim.one_cycle(step, 3, config.optimizer.warmup) for step in (1, 2)]
    assert shares[0] != shares[1]


@pytest.mark.parametrize("amp", [True, False])
def test_mixed_precision_is_that_of_the_losses(monkeypatch: pytest.MonkeyPatch, amp: bool) -> None:
    seen = []

    def features(*_: Any) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        raise Enough

    monkeypatch.setattr(pretrain, "image_features", features)
    batch: Any = SimpleNamespace(pixels=torch.zeros(1))
    with pytest.raises(Enough):
        pretrain.losses(PLAIN.with_(amp=amp), None, None, batch, (0, 0))  # type: ignore[arg-type]
    assert seen == [amp]


@pytest.mark.parametrize("stride", [4, 1])
@pytest.mark.parametrize("method", ["superpixel", "ppkt"])
def test_a_point_meets_the_pixel_under_it(monkeypatch: pytest.MonkeyPatch, stride: int, method: Any) -> None:
    """A point in the last quarter of a feature cell, and superpixels that number the columns of the image."""
    assert PLAIN.ipv is not None
    config = PLAIN.with_(height=HEIGHT, width=WIDTH, ipv=PLAIN.ipv.with_(method=method, full_resolution=stride == 1))
    seen: dict[str, Tensor] = {}
    monkeypatch.setattr(pretrain, "superpixel_loss", lambda p, s, x, at_cells, *_: seen.update(at=at_cells))
    monkeypatch.setattr(pretrain, "point_pixel_loss", lambda p, uv, *_: seen.update(uv=uv))
    uv = torch.tensor([[4 * 3 + 2.3, 0.0]])
    batch: Any = SimpleNamespace(
        pair_voxel=torch.tensor([0]),
        pair_uv=uv,
        pair_image=torch.tensor([0]),
        segments=torch.arange(WIDTH).expand(1, HEIGHT, WIDTH).int(),
    )
    networks: Any = SimpleNamespace(point_head=lambda voxels: voxels, pixel_head=lambda features: features)
    features = torch.zeros(1, 2, HEIGHT // stride, WIDTH // stride)
    pretrain.image_plane_loss(config, networks, torch.zeros(1, 2), features, batch, (0, 0))
    centres = (torch.arange(WIDTH // stride) + 0.5) * stride - 0.5
    if method == "superpixel":
        assert (seen["at"][0, 0] - centres).abs().max() <= 0.5, "of the pixel nearest to the cell's centre"
    else:
        assert int((seen["uv"][0, 0] + 0.5).floor()) == int((centres - uv[0, 0]).abs().argmin()), "the nearest cell"


def test_chance_is_the_loss_of_guessing() -> None:
    match: Any = SimpleNamespace(loss=torch.tensor(1.0), top1=torch.tensor(0.5), count=50)
    health = pretrain._health("bev", match)
    assert float(health["bev_chance"]) == pytest.approx(np.log(50))
    assert float(health["bev_top1"]) == 0.5


def test_terms_are_the_mean_of_the_parts() -> None:
    assert pretrain.mean_terms([{"x": torch.tensor(1.0)}, {"x": torch.tensor(3.0)}])["x"] == 2
