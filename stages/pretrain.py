"""Pre-training: a frozen image network teaches the LiDAR student through the image plane and the bird's-eye view."""

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cache.work import Work
from hvd import log
from hvd.datasets.prepared import Frames
from hvd.datasets.pretraining import PretrainBatch, PretrainData, PretrainOptions
from hvd.datasets.student_voxels import build_voxelizer
from hvd.errors import InputError
from hvd.geometry.grid import GridSpec
from hvd.losses.contrastive import Match, cell_loss, point_pixel_loss, segment_of_pairs, superpixel_loss
from hvd.losses.depth import abs_rel, depth_labels, depth_loss, nearest_depth
from hvd.models.distiller import BevBranch, BevView, Cameras, Distiller, released_geometry
from hvd.models.student import save_student, write_tensors
from hvd.models.teacher import Teacher, build_teacher
from hvd.training import loading, seeding
from hvd.training.device import moved, pick_device
from hvd.training.interrupt import StopRequest
from stages import protocol
from stages.runtime import Runtime
from stages.selection import rows_of, usable
from stages.training import Training, about_bytes, build_optimizer, lr_share
from stages.training_specs import BevConfig, PretrainConfig

Terms = dict[str, Tensor]
HEADS_FILE = "heads.safetensors"


def run(config: PretrainConfig, inputs: Mapping[str, Path], work: Work, runtime: Runtime) -> dict[str, Any]:
    """Train on the prepared frames; writes the student, the heads and the loss history."""
    seeding.start(config.seed, config.threads)
    device = pick_device(runtime.device)
    data = open_data(config, inputs)
    config.require_two_images(len(data.frames.attributes["cameras"]))
    split = rows_of(inputs["frames"], data.frames.scenes, config.splits, config.split)
    chosen = usable(split, data.frames.num_pairs, data.frames.tokens, "point in view of a camera")
    total = config.total_steps(len(chosen))
    log.info(f"pretrain on {len(chosen)} frames of split {config.split}: {total} steps, batch {config.batch}")

    teacher = None if config.cached_features else build_teacher(config.teacher).to(device)
    networks = build_networks(config).to(device)
    optimizer = build_optimizer(config.optimizer, [(networks, config.optimizer.lr)])
    work.expected_bytes = about_bytes(networks)
    training = Training("pretrain", total, networks, optimizer, work.scratch)
    order = loading.Order(len(chosen), config.batch, config.seed)
    parts = config.accumulate
    size = config.batch // parts

    def rows(draw: int) -> list[int]:
        step, part = divmod(draw, parts)
        return [chosen[i] for i in order.batch(step)[part * size : (part + 1) * size]]

    def load(draw: int) -> PretrainBatch:
        return data.batch(rows(draw), draw)

    def name(draw: int) -> str:
        return ", ".join(data.frames.tokens[row] for row in rows(draw))

    batches = loading.prefetch(load, range(training.step * parts, total * parts), runtime.workers, name)
    with StopRequest() as stop:
        for step in range(training.step, total):
            optimizer.zero_grad(set_to_none=True)
            tokens: list[str] = []
            of_parts: list[Terms] = []
            for part in range(parts):
                batch = moved(next(batches), device)
                loss, terms = losses(config, networks, teacher, batch, (step, part))
                (loss / parts).backward()
                of_parts.append(terms)
                tokens += batch.tokens
            training.advance(lr_share(config.optimizer, step, total), mean_terms(of_parts), tokens)
            if stop.signum is not None or (training.step % config.save_every == 0 and training.step < total):
                training.save()
            stop.raise_if_asked()

    save_student(work.folder / "student.safetensors", networks.student, config.student)
    save_heads(work.folder / HEADS_FILE, networks)
    protocol.write(work.folder, protocol.pretraining(config, data.frames, len(chosen)))
    (work.folder / "history.json").write_text(json.dumps(training.history, indent=1))
    return {**training.metrics(), "frames": len(chosen)}


def open_data(config: PretrainConfig, inputs: Mapping[str, Path]) -> PretrainData:
    """The prepared parts as augmented samples."""
    options = PretrainOptions(
        height=config.height,
        width=config.width,
        voxelizer=build_voxelizer(config.student),
        range_m=config.range_m,
        z_min_m=config.z_min_m,
        z_max_m=config.z_max_m,
        points=config.point_augmentation,
        images=config.image_augmentation,
        seed=config.seed,
        occlusion_filter=config.occlusion_filter,
    )
    pixels = inputs["features" if config.cached_features else "images"]
    if not Frames(inputs["frames"]).attributes["cameras"]:
        raise InputError("these frames have no cameras: nothing can teach", where=inputs["frames"])
    return PretrainData(inputs["frames"], inputs["superpixels"], pixels, config.cached_features, options)


def build_networks(config: PretrainConfig) -> Distiller:
    """The student, its heads and the teacher's trained heads, initialised from torch's current seed."""
    teacher = config.teacher.shape
    full = config.ipv is not None and config.ipv.full_resolution
    size = (config.height, config.width) if full else None
    networks = Distiller(config.student, teacher, config.channels, size, ipv=config.ipv is not None)
    if config.bev is not None:
        bev, reach = config.bev, config.range_m
        networks.bev = BevBranch(
            in_channels=networks.student.out_channels,
            teacher=teacher,
            head=bev.head,
            depth_net=bev.depth_net,
            bins=bev.depth_bins,
            grid=GridSpec((-reach, -reach), (reach, reach), (bev.cell_m, bev.cell_m)),
            slab_m=(config.z_min_m, config.z_max_m),
            voxel_edges_m=config.student.voxel_edges_m,
            min_weight=bev.min_weight,
            uniform_depth=bev.depth == "uniform",
        )
    return networks


def losses(
    config: PretrainConfig, networks: Distiller, teacher: Teacher | None, batch: PretrainBatch, step: tuple[int, int]
) -> tuple[Tensor, Terms]:
    """The weighted loss of one batch, and its terms with their health figures."""
    with _autocast(config, batch.pixels.device):
        features = image_features(teacher, batch.pixels)
        voxels = networks.student(batch.feature, batch.coords, batch.batch_size)
        loss, terms = voxels.new_zeros(()), Terms()
        if config.ipv is not None:
            match = image_plane_loss(config, networks, voxels, features, batch, step)
            loss = loss + config.ipv.weight * match.loss
            terms |= _health("ipv", match)
        if config.bev is not None:
            bev, depth, error = bird_eye_loss(config, networks, voxels, features, batch, step)
            loss = loss + config.bev.weight * bev.loss
            if config.bev.depth == "learned":
                loss = loss + config.bev.depth_weight * depth
            terms |= {**_health("bev", bev), "depth": depth, "depth_abs_rel": error}
    return loss, {"loss": loss, **terms}


def image_features(teacher: Teacher | None, pixels: Tensor) -> Tensor:
    """The teacher's feature maps (I, C, h, w): of images in 0..255, or cached ones as they are."""
    if teacher is not None:
        features: Tensor = teacher(pixels.float() / 255)
        return features
    return pixels.to(torch.float32, memory_format=torch.channels_last)


def image_plane_loss(
    config: PretrainConfig,
    networks: Distiller,
    voxels: Tensor,
    features: Tensor,
    batch: PretrainBatch,
    step: tuple[int, int],
) -> Match:
    """IPV: points and pixels that fall in one superpixel match."""
    assert config.ipv is not None and networks.point_head is not None and networks.pixel_head is not None
    points = networks.point_head(voxels)[batch.pair_voxel]
    pixels = networks.pixel_head(features)
    stride = config.height // pixels.shape[2]
    if config.ipv.method == "ppkt":
        uv = (batch.pair_uv + 0.5) / stride - 0.5
        generator = seeding.torch_generator(config.seed, "ppkt", *step)
        return point_pixel_loss(points, uv, batch.pair_image, pixels, config.ipv.pairs, generator, config.temperature)
    count = int(batch.segments.max()) + 1
    segment = segment_of_pairs(batch.pair_uv, batch.pair_image, batch.segments, count)
    at_cells = batch.segments[:, stride // 2 :: stride, stride // 2 :: stride]
    return superpixel_loss(points, segment, pixels, at_cells, count, config.temperature)


def bird_eye_loss(
    config: PretrainConfig,
    networks: Distiller,
    voxels: Tensor,
    features: Tensor,
    batch: PretrainBatch,
    step: tuple[int, int],
) -> tuple[Match, Tensor, Tensor]:
    """BEV: student and image features of one ground cell match; the depth that lifts the pixels is learnt beside."""
    assert config.bev is not None
    view, nearest, labels = ground_view(config, networks, voxels, features, batch)
    student, weight = view.student, cell_weights(view.student.voxels, config.bev)
    generator = seeding.torch_generator(config.seed, "bev", *step)
    seen = view.image, view.reached
    match = cell_loss(student.features, student.cell, weight, *seen, config.bev.cells, generator, config.temperature)
    depth = depth_loss(view.depth_logits, labels, config.bev.depth_loss)
    return match, depth, abs_rel(view.depth_logits, labels, nearest, config.bev.depth_bins)


def ground_view(
    config: PretrainConfig, networks: Distiller, voxels: Tensor, features: Tensor, batch: PretrainBatch
) -> tuple[BevView, Tensor, Tensor]:
    """Both modalities on the ground; each feature cell's nearest depth (I, h, w) in metres, 0 = none, and its bin."""
    assert config.bev is not None and networks.bev is not None
    cameras = Cameras(
        batch.intrinsics, batch.lidar_from_camera, batch.ego_from_camera, batch.aug_from_image, batch.aug_from_lidar
    )
    if config.bev.geometry == "release":
        cameras = released_geometry(cameras, config.height, config.width)
    images, _, h, w = features.shape
    stride = config.teacher.shape.stride
    nearest = nearest_depth(batch.pair_uv, batch.pair_depth, batch.pair_image, images, h, w, stride)
    labels = depth_labels(nearest, config.bev.depth_bins)
    lifted = labels >= 0 if config.bev.lift == "measured" else None
    return networks.bev(voxels, batch.coords, batch.origin, features, cameras, lifted), nearest, labels


def cell_weights(voxels: Tensor, config: BevConfig) -> Tensor | None:
    """How much cells with so many voxels (N,) count; None if all count alike.

    A pillar's feature is the mean of its voxels. Were all cells alike, a lone voxel far away would learn from the
    ground view as much as sixteen nearby together.
    """
    if config.min_voxels is None and config.weigh_up_to is None:
        return None
    return voxels.clamp(max=config.weigh_up_to or 1).float() * (voxels >= (config.min_voxels or 1))


def mean_terms(parts: list[Terms]) -> Terms:
    """The mean of each term over the parts of a batch."""
    return {name: torch.stack([part[name].detach() for part in parts]).mean() for name in parts[0]}


def _health(name: str, match: Match) -> Terms:
    chance = torch.tensor(math.log(max(match.count, 1)))
    return {name: match.loss, f"{name}_chance": chance, f"{name}_top1": match.top1}


def _autocast(config: PretrainConfig, device: torch.device) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16) if config.amp else nullcontext()


def save_heads(path: Path, networks: Distiller) -> None:
    """Write what pre-training adds to the student: kept for study, not needed downstream."""
    state = networks.state_dict()
    write_tensors(path, {k: v for k, v in state.items() if not k.startswith("student.")})
