"""Losses of semantic segmentation: cross-entropy and Lovasz-softmax (Berman et al., CVPR 2018, arXiv 1705.08790).

Letters: N points or voxels, C classes, K classes present among the labels.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.nn import functional as F

from hvd.datasets.labels import IGNORED


def cross_entropy(logits: Float[Tensor, "N C"], labels: Integer[Tensor, " N"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the labels that are not IGNORED; 0 if all are."""
    total = F.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def lovasz_softmax(logits: Float[Tensor, "N C"], labels: Integer[Tensor, " N"]) -> Float[Tensor, ""]:
    """Lovasz extension of the Jaccard loss of each class present among the labels, averaged over these classes.

    Labels that are IGNORED take no part; 0 if all are.
    """
    valid = labels != IGNORED
    logits, labels = logits[valid].float(), labels[valid].long()
    if len(labels) == 0:
        return logits.sum()
    present = torch.unique(labels)
    truth = (labels == present[:, None]).float()
    errors: Tensor = (truth - logits.softmax(dim=1).T[present]).abs()
    order = _descending(errors.detach())
    steps = _jaccard_steps(truth.gather(1, order))
    return (errors * torch.zeros_like(steps).scatter(1, order, steps)).sum(dim=1).mean()


def _jaccard_steps(truth: Float[Tensor, "K N"]) -> Float[Tensor, "K N"]:
    """What each point, taken as wrong after those before it, adds to the Jaccard loss (1 = of the class, 0 = not)."""
    positives = truth.sum(dim=1, keepdim=True)
    found = truth.cumsum(dim=1)
    rank = torch.arange(1, truth.shape[1] + 1, device=truth.device)
    loss = 1 - (positives - found) / (positives + rank - found)
    return loss.diff(dim=1, prepend=torch.zeros_like(positives))


def _descending(values: Float[Tensor, "K N"]) -> Int64[Tensor, "K N"]:
    """The order of each row from large to small. On the CPU NumPy sorts several times as fast as torch."""
    if values.is_cuda:
        return values.argsort(dim=1, descending=True)
    return torch.from_numpy(np.argsort(-values.numpy(), axis=1))
