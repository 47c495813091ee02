"""Fine-tuning for semantic segmentation from few labels, and linear probing of a frozen backbone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache.work import Work
from hvd import log
from hvd.datasets.labels import LABEL_MAPS
from hvd.datasets.segmentation import SegmentationData, VoxelBatch
from hvd.datasets.splits import LABEL_UNIT, LabelBudget
from hvd.datasets.student_voxels import MovingVoxels
from hvd.errors import InputError
from hvd.losses.segmentation import cross_entropy, lovasz_softmax
from hvd.models.heads import SegmentationHead
from hvd.models.student import HEAD_FILE, load_backbone, save_head, save_student
from hvd.models.unet import SparseUNet
from hvd.training import loading, seeding
from hvd.training.device import moved, pick_device
from hvd.training.interrupt import StopRequest
from stages import protocol
from stages.runtime import Runtime
from stages.selection import rows_of, usable
from stages.training import Training, about_bytes, build_optimizer, lr_share
from stages.training_specs import DetectFinetuneConfig, FinetuneConfig

Item = tuple[Tensor, Tensor]  # backbone features (V, C) and classes (V,) of one frame


def run(config: FinetuneConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Train a head, and the backbone unless probing, on the labelled frames; writes both."""
    seeding.start(config.seed, config.threads)
    device = pick_device(runtime.device)
    classes = LABEL_MAPS[config.dataset]
    data = SegmentationData(inputs["frames"], inputs["labels"], classes, MovingVoxels(config.student.voxel_size_m))
    chosen = labelled_rows(config, inputs["frames"], data.frames.scenes)
    data.require_labels(chosen)
    labelled = usable(chosen, data.frames.num_points, data.frames.tokens, "point")
    backbone = build_backbone(config, inputs.get("student"), device)
    if config.reestimate_norm:
        reestimate_norm(backbone, data, labelled, device)
    head = SegmentationHead(backbone.out_channels, len(classes.names)).to(device)
    total = config.total_steps(len(labelled))
    log.info(f"finetune on {len(labelled)} labelled frames ({config.labels}): {total} steps, batch {config.batch}")

    parts: list[tuple[nn.Module, float]] = [(head, config.head_lr)]
    if not config.linear_probe:
        parts.append((backbone, config.optimizer.lr))
    networks = nn.ModuleList([module for module, _ in parts])
    work.expected_bytes = about_bytes(networks)
    training = Training("finetune", total, networks, build_optimizer(config.optimizer, parts), work.scratch)
    backbone.train(not config.linear_probe)
    cached = embed(backbone, data, labelled, device) if config.cached_features else None
    order = loading.Order(len(labelled), config.batch, config.seed)

    def load(step: int) -> VoxelBatch | list[Item]:
        items = order.batch(step)
        if cached is not None:
            return [cached[i] for i in items]
        return data.batch([labelled[i] for i in items], config.point_augmentation, (config.seed, step))

    def tokens(step: int) -> list[str]:
        return [data.frames.tokens[labelled[i]] for i in order.batch(step)]

    workers = 0 if cached is not None else runtime.workers
    batches = loading.prefetch(load, range(training.step, total), workers, lambda step: ", ".join(tokens(step)))
    with StopRequest() as stop:
        for step, batch in zip(range(training.step, total), batches, strict=True):
            training.optimizer.zero_grad(set_to_none=True)
            scores, label = forward(backbone, head, batch, config, device)
            terms = losses(scores, label, config.lovasz)
            terms["loss"].backward()
            training.advance(lr_share(config.optimizer, step, total), terms, tokens(step))
            if stop.signum is not None or (training.step % config.save_every == 0 and training.step < total):
                training.save()
            stop.raise_if_asked()

    save_student(work.folder / "student.safetensors", backbone, config.student)
    save_head(work.folder / HEAD_FILE, head)
    unit = LABEL_UNIT[config.dataset]
    protocol.write(work.folder, protocol.finetuning(config, inputs.get("student"), data.frames, len(labelled), unit))
    (work.folder / "history.json").write_text(json.dumps(training.history, indent=1))
    return {**training.metrics(), "labelled_frames": len(labelled)}


def labelled_rows(config: FinetuneConfig | DetectFinetuneConfig, frames: Path, scenes: tuple[str, ...]) -> list[int]:
    """The labelled frames of the training split.

    Raises:
        InputError: the split is empty.
        UsageError: the label budget takes none of it, or more than there is.
    """
    rows = rows_of(frames, scenes, config.splits, config.split)
    unit = LABEL_UNIT[config.dataset]
    chosen = LabelBudget.parse(config.labels).select([scenes[row] for row in rows], config.label_offset, unit)
    return [rows[i] for i in chosen]


def build_backbone(config: FinetuneConfig, student: Path | None, device: torch.device) -> SparseUNet:
    """The pre-trained student, or a new one from torch's current seed."""
    if student is None:
        return SparseUNet(config.student).to(device)
    return load_backbone(student, config.student, device)


def forward(
    backbone: SparseUNet,
    head: SegmentationHead,
    batch: VoxelBatch | list[Item],
    config: FinetuneConfig,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Class scores (V, classes) and labels (V,) of a batch; probing sends no gradient into the backbone."""
    if isinstance(batch, list):
        return head(torch.cat([f for f, _ in batch]).float()), torch.cat([label for _, label in batch])
    batch = moved(batch, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.amp):
        with torch.set_grad_enabled(not config.linear_probe):
            features = backbone(batch.feature, batch.coords, batch.batch_size)
        return head(features), batch.label


def losses(scores: Tensor, label: Tensor, lovasz: bool) -> dict[str, Tensor]:
    """Cross-entropy, plus Lovasz-softmax where asked for."""
    terms = {"cross_entropy": cross_entropy(scores, label)}
    if lovasz:
        terms["lovasz"] = lovasz_softmax(scores, label)
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def whole_frame(data: SegmentationData, row: int) -> VoxelBatch:
    """One labelled frame, unaugmented.

    Raises:
        InputError: none of its points is finite.
    """
    batch = data.batch([row])
    if not len(batch.coords):
        raise InputError("a labelled frame has no finite point", where=batch.tokens[0], hint="shift --label-offset")
    return batch


@torch.no_grad()
def embed(backbone: SparseUNet, data: SegmentationData, rows: list[int], device: torch.device) -> list[Item]:
    """Frozen backbone features of every labelled frame, computed once, unaugmented."""
    backbone.eval()
    items = []
    for row in log.track(rows, "embed"):
        batch = moved(whole_frame(data, row), device)
        features = backbone(batch.feature, batch.coords, 1)
        items.append((features.half(), batch.label))
    return items


@torch.no_grad()
def reestimate_norm(backbone: SparseUNet, data: SegmentationData, rows: list[int], device: torch.device) -> None:
    """Replace the batch-norm statistics by averages over the training frames; no weight changes."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    backbone.train()
    for row in log.track(rows, "re-estimate batch norm"):
        batch = moved(whole_frame(data, row), device)
        backbone(batch.feature, batch.coords, 1)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
