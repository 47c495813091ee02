"""Contrastive distillation between matched student and teacher features.

InfoNCE: van den Oord et al. 2018 (arXiv 1807.03748). Superpixels: SLidR (arXiv 2203.16258). Point-pixel pairs: PPKT
(arXiv 2104.04687). Ground cells: HVDistill (arXiv 2403.11817).

Letters: N matched rows, C channels, P points, M point-pixel pairs, I images, S superpixels per image, (h, w) pixels,
B samples, X*Y ground cells.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

TEMPERATURE = 0.07

_ROWS_AT_A_TIME = {"cpu": 128, "cuda": 4096}  # of the similarity matrix: on the CPU, what stays in its cache


@dataclass(frozen=True)
class Match:
    """A contrastive loss and its health: compare `loss` with its chance level ln(count)."""

    loss: Float[Tensor, ""]  # 0 where nothing matched
    top1: Float[Tensor, ""]  # share of students whose most similar teacher is their own; no gradient
    count: int  # matched rows N


def info_nce(
    student: Float[Tensor, "N C"],
    teacher: Float[Tensor, "N C"],
    temperature: float = TEMPERATURE,
    weight: Float[Tensor, " N"] | None = None,
) -> Match:
    """Cross-entropy of student teacher^T / temperature against the diagonal; rows are of unit length.

    With `weight`, the loss is the weighted mean over the rows.
    """
    count = len(student)
    if count == 0:
        return Match(student.sum() + teacher.sum(), student.new_zeros(()), 0)
    with torch.autocast(student.device.type, enabled=False):
        loss, top1 = _InfoNce.apply(student, teacher, temperature, weight)
    return Match(loss, top1, count)


class _InfoNce(torch.autograd.Function):
    """Loss and top1 of `info_nce`, a block of rows at a time; both gradients are found on the way.

    The (N, N) similarities are never whole in memory: autograd would write and read them several times over, which
    takes three times as long on the CPU (`make bench`).
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, temperature: float, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        count = len(student)
        weights = count if weight is None else weight.sum()
        scaled = student / temperature
        loss, right = student.new_zeros(()), student.new_zeros(())
        grad_scaled, grad_teacher = torch.empty_like(student), torch.zeros_like(teacher)
        step = _ROWS_AT_A_TIME[student.device.type]
        for first in range(0, count, step):
            rows = slice(first, first + step)
            logits = scaled[rows] @ teacher.T
            own, top = logits.diagonal(first).clone(), logits.amax(dim=1)
            right += (own >= top).sum()
            share = logits.sub_(top[:, None]).exp_()
            total = share.sum(dim=1)
            row_loss = total.log() + top - own
            loss += row_loss.sum() if weight is None else row_loss @ weight[rows]
            grad_logits = share.div_(total[:, None])
            grad_logits.diagonal(first).sub_(1)
            if weight is not None:
                grad_logits *= weight[rows, None]
            grad_scaled[rows] = grad_logits @ teacher
            grad_teacher.addmm_(grad_logits.T, scaled[rows])
        ctx.save_for_backward(grad_scaled / (temperature * weights), grad_teacher / weights)
        top1 = right / count
        ctx.mark_non_differentiable(top1)
        return loss / weights, top1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_student, grad_teacher = ctx.saved_tensors
        return grad * grad_student, grad * grad_teacher, None, None


def superpixel_loss(
    points: Float[Tensor, "M C"],
    point_segment: Int64[Tensor, " M"],
    pixels: Float[Tensor, "I C h w"],
    pixel_segment: Integer[Tensor, "I h w"],
    segments_per_image: int,
    temperature: float = TEMPERATURE,
) -> Match:
    """IPV: InfoNCE between the mean point and the mean pixel of each superpixel that has both.

    Args:
        points: student features, one row per point-pixel pair.
        point_segment: row of each pair's superpixel, from `segment_of_pairs`; -1 takes no part.
        pixels: teacher features.
        pixel_segment: superpixels at the size of `pixels`, numbered 0..S-1 in each image.
        segments_per_image: S.
    """
    student, point_count = pool_points(points, point_segment, len(pixels) * segments_per_image)
    teacher, pixel_count = pool_pixels(pixels, pixel_segment, segments_per_image)
    both = (point_count > 0) & (pixel_count > 0)
    return info_nce(F.normalize(student[both], dim=1), F.normalize(teacher[both], dim=1), temperature)


def point_pixel_loss(
    points: Float[Tensor, "M C"],
    uv: Float[Tensor, "M 2"],
    image: Integer[Tensor, " M"],
    pixels: Float[Tensor, "I C h w"],
    limit: int,
    generator: Generator,
    temperature: float = TEMPERATURE,
) -> Match:
    """PPKT: InfoNCE between points and the pixels under them, on up to `limit` drawn pairs.

    Args:
        points: student features of unit length, one row per pair.
        uv: in pixels of `pixels`, whose top-left pixel has its centre at (0, 0); pairs outside take no part.
        image: 0..I-1.
        pixels: teacher features of unit length per pixel.
    """
    row, column, inside = _pixel_under(uv, *pixels.shape[2:])
    seen = inside.nonzero()[:, 0]
    chosen = seen[draw(len(seen), limit, generator).to(seen.device)]
    return info_nce(points[chosen], pixels[image[chosen].long(), :, row[chosen], column[chosen]], temperature)


def cell_loss(
    student: Float[Tensor, "N C"],
    cell: Int64[Tensor, " N"],
    weight: Float[Tensor, " N"] | None,
    image: Float[Tensor, "B XY C"],
    reached: Bool[Tensor, "B XY"],
    limit: int,
    generator: Generator,
    temperature: float = TEMPERATURE,
) -> Match:
    """BEV: InfoNCE between the student's and the image's features of up to `limit` drawn cells that have both.

    Args:
        student: features of unit length.
        cell: flat over (B, X, Y), each at most once.
        weight: how much each counts, 0 for not at all; None: all alike.
        image: splatted features, of any length.
        reached: cells that a camera ray reaches.
    """
    seen = reached.flatten()[cell]
    both = (seen if weight is None else seen & (weight > 0)).nonzero()[:, 0]
    chosen = both[draw(len(both), limit, generator).to(both.device)]
    seen_image = F.normalize(image.flatten(0, 1)[cell[chosen]], dim=1)
    return info_nce(student[chosen], seen_image, temperature, None if weight is None else weight[chosen])


def pool_points(
    features: Float[Tensor, "P C"], segment: Int64[Tensor, " P"], num: int
) -> tuple[Float[Tensor, "{num} C"], Int64[Tensor, " {num}"]]:
    """Mean feature and number of points of each segment 0..num-1; rows of segment -1 belong to none.

    The mean of an empty segment is 0.
    """
    bucket = segment + 1  # rows of no segment go to bucket 0, which is left out: cheaper than copying the others
    count = torch.bincount(bucket, minlength=num + 1)[1:]
    total = features.new_zeros(num + 1, features.shape[1]).index_add(0, bucket, features)[1:]
    return total / count.clamp(min=1)[:, None], count


def pool_pixels(
    features: Float[Tensor, "I C h w"], segment: Integer[Tensor, "I h w"], segments_per_image: int
) -> tuple[Float[Tensor, "IS C"], Int64[Tensor, " IS"]]:
    """Mean feature and number of pixels of each superpixel; superpixel s of image i is row i*S + s.

    The mean of an empty superpixel is 0.
    """
    images, channels = features.shape[:2]
    index = segment.long().flatten(1)
    # Channel first, as the features lie in memory: each sum runs along one row, and no transpose is made.
    total = features.new_zeros(images, channels, segments_per_image).scatter_add(
        2, index[:, None].expand(-1, channels, -1), features.flatten(2)
    )
    first = torch.arange(images, device=index.device)[:, None] * segments_per_image
    count = torch.bincount((index + first).flatten(), minlength=images * segments_per_image)
    return total.transpose(1, 2).flatten(0, 1) / count.clamp(min=1)[:, None], count


def segment_of_pairs(
    uv: Float[Tensor, "M 2"],
    image: Integer[Tensor, " M"],
    segment: Integer[Tensor, "I h w"],
    segments_per_image: int,
) -> Int64[Tensor, " M"]:
    """The superpixel under each pair, numbered as the rows of `pool_pixels`; -1 for pairs outside of the image.

    Args:
        uv: in pixels of `segment`, whose top-left pixel has its centre at (0, 0).
        image: 0..I-1.
        segment: 0..S-1.
    """
    row, column, inside = _pixel_under(uv, *segment.shape[1:])
    image = image.long()
    number = image * segments_per_image + segment[image, row, column].long()
    return torch.where(inside, number, -1)


def draw(count: int, limit: int, generator: Generator) -> Int64[Tensor, " n"]:
    """Up to `limit` of the indices 0..count-1, drawn without replacement, on the CPU."""
    if count <= limit:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:limit]


def _pixel_under(
    uv: Float[Tensor, "M 2"], height: int, width: int
) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"], Bool[Tensor, " M"]]:
    """Row and column of the nearest pixel, moved to the border if outside; and whether it is inside."""
    column, row = (uv + 0.5).floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return row.clamp(0, height - 1), column.clamp(0, width - 1), inside
