"""Fine-tuning for 3D detection from few labelled frames."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache.work import Work
from hvd import log
from hvd.datasets.box_augment import BoxScene, Database, build_database
from hvd.datasets.detection import Augmenter, BoxBatch, DetectionData, augmented, box_batch, require_voxels
from hvd.datasets.splits import LABEL_UNIT
from hvd.losses.detection import centre_targets
from hvd.models.detector import CentreDetector, detection_loss
from hvd.models.detector_file import save_detector
from hvd.models.student import load_backbone
from hvd.training import loading, seeding
from hvd.training.device import moved, pick_device
from hvd.training.interrupt import StopRequest
from stages import protocol
from stages.finetune import labelled_rows
from stages.runtime import Runtime
from stages.selection import usable
from stages.training import Training, about_bytes, build_optimizer, lr_share
from stages.training_specs import DetectFinetuneConfig


def run(config: DetectFinetuneConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Train a detector on the labelled frames; writes it."""
    seeding.start(config.seed, config.threads)
    device = pick_device(runtime.device)
    data = DetectionData(inputs["frames"], inputs["boxes"], config.detector.head.classes)
    chosen = labelled_rows(config, inputs["frames"], data.frames.scenes)
    data.require_labels(chosen)
    labelled = usable(chosen, data.frames.num_points, data.frames.tokens, "point")
    warn_of_nothing(data, labelled)
    detector = build_detector(config, inputs.get("student"), device)
    total = config.total_steps(len(labelled))
    log.info(f"detector on {len(labelled)} labelled frames ({config.labels}): {total} steps, batch {config.batch}")

    database = build(data, labelled, config, runtime.workers)
    augment = Augmenter(data.classes, config.augmentation, config.sampling, database)
    head = nn.ModuleList([detector.neck, detector.head])
    parts: list[tuple[nn.Module, float]] = [(head, config.head_lr), (detector.backbone, config.optimizer.lr)]
    work.expected_bytes = about_bytes(detector)
    training = Training("detector", total, detector, build_optimizer(config.optimizer, parts), work.scratch)
    detector.train()
    order = loading.Order(len(labelled), config.batch, config.seed)
    voxels = config.detector.voxelnet

    def load(step: int) -> BoxBatch:
        scenes = [data.scene(labelled[i]) for i in order.batch(step)]
        return require_voxels(box_batch(augmented(scenes, augment, (config.seed, step)), voxels.grid, voxels.low))

    def tokens(step: int) -> list[str]:
        return [data.frames.tokens[labelled[i]] for i in order.batch(step)]

    steps = range(training.step, total)
    batches = loading.prefetch(load, steps, runtime.workers, lambda step: ", ".join(tokens(step)))
    with StopRequest() as stop:
        for step, batch in zip(steps, batches, strict=True):
            training.optimizer.zero_grad(set_to_none=True)
            terms = losses(detector, moved(batch, device), config)
            terms["loss"].backward()
            nn.utils.clip_grad_norm_(detector.parameters(), config.clip_norm)
            training.advance(lr_share(config.optimizer, step, total), terms, tokens(step))
            if stop.signum is not None or (training.step % config.save_every == 0 and training.step < total):
                training.save()
            stop.raise_if_asked()

    save_detector(work.folder, detector)
    unit = LABEL_UNIT[config.dataset]
    protocol.write(work.folder, protocol.detection(config, inputs.get("student"), data.frames, len(labelled), unit))
    (work.folder / "history.json").write_text(json.dumps(training.history, indent=1))
    objects = {name: len(found) for name, found in zip(data.classes, database, strict=True)} if database else {}
    return {**training.metrics(), "labelled_frames": len(labelled), "sampled_from": objects}


def build_detector(config: DetectFinetuneConfig, student: Path | None, device: torch.device) -> CentreDetector:
    """A new detector from torch's current seed, with the pre-trained encoder if there is one."""
    detector = CentreDetector(config.detector)
    if student is not None:
        detector.backbone = load_backbone(student, config.detector.voxelnet, torch.device("cpu"))
    return detector.to(device)


def build(data: DetectionData, rows: list[int], config: DetectFinetuneConfig, workers: int) -> Database:
    """The objects of the labelled frames, and of no other; none where nothing is put into frames."""
    if config.sampling is None:
        return ()

    def load(index: int) -> BoxScene:
        return data.scene(rows[index])

    scenes = loading.prefetch(load, range(len(rows)), workers, lambda index: data.frames.tokens[rows[index]])
    tracked = zip(log.track(rows, "objects of the labelled frames"), scenes, strict=True)
    return build_database((scene for _, scene in tracked), len(data.classes), config.sampling.min_points)


def warn_of_nothing(data: DetectionData, rows: list[int]) -> None:
    """Say so if no labelled frame holds an object of the detector's classes."""
    if not any(name in data.classes for row in rows for name in data.boxes.objects(data.frames.tokens[row]).types):
        what = ", ".join(data.classes)
        log.warn(f"no {what} in any of {len(rows)} labelled frames: the detector learns to find nothing")


def losses(detector: CentreDetector, batch: BoxBatch, config: DetectFinetuneConfig) -> dict[str, Tensor]:
    """Focal loss of the heat maps and L1 of the boxes; `loss` is their weighted sum."""
    with torch.autocast(batch.feature.device.type, torch.bfloat16, enabled=config.amp):
        maps = detector(batch.feature, batch.coords, batch.batch_size)
    boxes, labels = batch.by_sample(batch.box), batch.by_sample(batch.label)
    targets = centre_targets(boxes, labels, config.detector.grid, len(config.detector.head.classes), config.loss)
    return detection_loss(maps, targets, config.loss)
