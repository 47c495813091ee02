"""Optimisers and learning-rate schedules as functions of the step: resuming needs no schedule state."""

import math
from typing import Any

import torch
from torch import nn


def sgd(groups: list[dict[str, Any]], momentum: float, dampening: float, weight_decay: float) -> torch.optim.Optimizer:
    """Stochastic gradient descent over `groups`, each with its own `lr`."""
    return torch.optim.SGD(_named(groups), momentum=momentum, dampening=dampening, weight_decay=weight_decay)


def adamw(groups: list[dict[str, Any]], weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over `groups`, each with its own `lr`."""
    return torch.optim.AdamW(_named(groups), weight_decay=weight_decay, foreach=True)


def _named(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**group, "peak_lr": group["lr"]} for group in groups]


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    """All parameters of `modules` that take gradients."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def cosine(step: int, total: int) -> float:
    """Share of the peak learning rate at `step` of `total`: half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def one_cycle(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: half a cosine up during `warmup` of the steps, then half a cosine down.

    Source: Smith and Topin, "Super-Convergence", arXiv 1708.07120, with cosine in place of linear ramps.
    """
    rise = warmup * total
    if step < rise:
        return 0.04 + 0.96 * (1 - cosine(step, int(rise) or 1))
    return cosine(step - int(rise), total - int(rise))


def set_lr(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set each group's learning rate to `share` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
