"""The audit of the built-in world: no single cue gives the classes away, and the teacher's features do know them.

Decision trees of depth 10 on one cue each must stay under a limit, and a linear probe on the teacher's features must
beat the one on colour. All learn on training scenes and are scored (mIoU, percent) on validation scenes, whose shapes,
layouts and, but for the plainest, textures of each material come from families of their own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.labels import IGNORED, NUSCENES
from hvd.datasets.nuscenes import NuScenesDataset, open_nuscenes
from hvd.datasets.sample import Sample
from hvd.geometry.camera import Pairs, pair_points
from hvd.log import track
from hvd.metrics.segmentation import confusion, miou
from hvd.world.config import VERSION

if TYPE_CHECKING:
    import torch

F32 = NDArray[np.float32]

_DEPTH = 10  # of the trees
_PROBE_STEPS = 600
_PROBE_BATCH = 8192
_POINTS_A_FRAME = 3000  # drawn without replacement, and as many pixels
# cue: (columns of a point's cues, greatest mIoU in percent)
_CUES = {
    "z": ((2,), 18.0),
    "intensity": ((3,), 12.0),
    "z + intensity + range": ((2, 3, 4), 25.0),
}
_RGB_LIMIT = 15.0
_TEACHER_MARGIN = 15.0
_LEARNT = 10.0


class Row(NamedTuple):
    """One line of the audit: a figure, what it is held against, and whether it passes."""

    name: str
    value: float
    limit: float
    ok: bool


@dataclass(frozen=True)
class _Data:
    """What one split shows: points with their cues, and pixels with their colours and features."""

    cue: F32  # (N, 5) x, y, z, intensity, range
    label: NDArray[np.uint8]  # (N,)
    rgb: F32  # (M, 3)
    feature: F32  # (M, C)
    pixel_label: NDArray[np.uint8]  # (M,)


def audit(nuscenes_root: Path, seed: int) -> list[Row]:
    """Measure a world in the nuScenes format; every draw comes from `seed`.

    Raises:
        InputError: the world or the teacher's weights can't be read.
    """
    from hvd.models.teacher import build_teacher
    from hvd.models.teacher_config import TeacherConfig

    dataset = open_nuscenes(nuscenes_root, VERSION)
    teacher = build_teacher(TeacherConfig())
    rng = np.random.default_rng(seed)
    train, val = (_gather(dataset, split, teacher, rng) for split in ("train", "val"))
    rows = []
    for name, (columns, limit) in _CUES.items():
        value = _tree(train.cue[:, columns], train.label, val.cue[:, columns], val.label, seed)
        rows.append(Row(f"tree on {name}", value, limit, value < limit))
    rgb = _tree(train.rgb, train.pixel_label, val.rgb, val.pixel_label, seed)
    probe = _probe(train, val, seed)
    rows.append(Row("tree on one pixel's RGB", rgb, _RGB_LIMIT, rgb < _RGB_LIMIT))
    rows.append(Row("linear probe on the teacher", probe, rgb + _TEACHER_MARGIN, probe >= rgb + _TEACHER_MARGIN))
    return rows


def _gather(dataset: NuScenesDataset, split: str, teacher: "torch.nn.Module", rng: np.random.Generator) -> _Data:
    """Some points of a split's first key frames, and some pixels that points fall on."""
    samples = list(_first_frames(dataset, split))
    points, pixels = [], []
    for sample in track(samples, f"audit ({split})"):
        cloud = dataset.read_points(sample)
        label = NUSCENES.map(dataset.read_labels(sample, len(cloud)))
        chosen = rng.permutation(len(cloud))[:_POINTS_A_FRAME]
        distance = np.linalg.norm(cloud[chosen, :3], axis=1, keepdims=True)
        points.append((np.concatenate([cloud[chosen], distance], 1), label[chosen]))
        pixels.append(_pixels(dataset, sample, cloud, label, teacher, rng))
    cue, label = (np.concatenate(parts) for parts in zip(*points, strict=True))
    rgb, feature, pixel_label = (np.concatenate(parts) for parts in zip(*pixels, strict=True))
    known, known_pixel = label != IGNORED, pixel_label != IGNORED
    return _Data(cue[known], label[known], rgb[known_pixel], feature[known_pixel], pixel_label[known_pixel])


def _first_frames(dataset: NuScenesDataset, split: str) -> Iterator[Sample]:
    """One key frame a scene: two of one scene say nearly the same."""
    scenes = set(dataset.splits("paper")[split])
    for sample in dataset.samples:
        if sample.scene in scenes:
            scenes.remove(sample.scene)
            yield sample


def _pixels(
    dataset: NuScenesDataset,
    sample: Sample,
    cloud: F32,
    label: NDArray[np.uint8],
    teacher: "torch.nn.Module",
    rng: np.random.Generator,
) -> tuple[F32, F32, NDArray[np.uint8]]:
    """Colour (n, 3), teacher's feature (n, C) and label (n,) at the pixels of some points."""
    import torch

    views = sample.cameras
    poses, intrinsics = (
        np.stack([getattr(view, key) for view in views]) for key in ("camera_from_lidar", "intrinsics")
    )
    pairs: Pairs = pair_points(cloud[:, :3], poses, intrinsics, views[0].width, views[0].height)
    chosen = np.sort(rng.permutation(len(pairs))[:_POINTS_A_FRAME])
    images = np.stack([dataset.read_image(view) for view in views])
    u, v = np.round(pairs.uv[chosen]).astype(np.int64).T
    camera = pairs.camera[chosen].astype(np.int64)
    features = teacher(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    stride = views[0].width // features.shape[-1]
    at_pixel = features[torch.from_numpy(camera), :, torch.from_numpy(v // stride), torch.from_numpy(u // stride)]
    return images[camera, v, u].astype(np.float32), at_pixel.numpy(), label[pairs.point[chosen]]


def _tree(train_x: F32, train_y: NDArray[np.uint8], val_x: F32, val_y: NDArray[np.uint8], seed: int) -> float:
    """mIoU in percent of a decision tree."""
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=_DEPTH, random_state=seed).fit(train_x, train_y)
    return _score(val_y, tree.predict(val_x))


def _probe(train: _Data, val: _Data, seed: int) -> float:
    """mIoU in percent of a softmax regression on standardised features (Adam, one-cycle)."""
    import torch

    mean, deviation = train.feature.mean(0), train.feature.std(0) + 1e-6
    x, y = torch.from_numpy((train.feature - mean) / deviation), torch.from_numpy(train.pixel_label.astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(x.shape[1], len(NUSCENES.names), requires_grad=True)
    bias = torch.zeros(len(NUSCENES.names), requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.01, total_steps=_PROBE_STEPS)
    for _ in range(_PROBE_STEPS):
        rows = torch.randint(len(x), (min(_PROBE_BATCH, len(x)),), generator=generator)
        loss = torch.nn.functional.cross_entropy(x[rows] @ weight + bias, y[rows])
        weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        logits = torch.from_numpy((val.feature - mean) / deviation) @ weight + bias
    return _score(val.pixel_label, logits.argmax(1).numpy())


def _score(truth: NDArray[Any], prediction: NDArray[Any]) -> float:
    return 100 * miou(confusion(truth, prediction, len(NUSCENES.names)))


def learnable(metrics: Path) -> list[Row]:
    """One line a class: its IoU in percent in an evaluation's metrics.json must exceed 10."""
    classes = json.loads(metrics.read_text(encoding="utf8"))["per_class"]
    values = {name: found["iou"] or 0.0 for name, found in classes.items()}
    return [Row(f"IoU of {name}, all labels", value, _LEARNT, value > _LEARNT) for name, value in values.items()]
