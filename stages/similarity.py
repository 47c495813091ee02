"""What a pre-trained student has learnt to match: one point against an image's pixels and the cells of the ground."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cache.artifact import Artifact
from cache.store import Store
from hvd.datasets.prepared import Arrays, Frames
from hvd.datasets.pretraining import PretrainBatch
from hvd.errors import InputError
from hvd.models.distiller import Distiller
from hvd.models.student import student_file
from hvd.models.teacher import build_teacher
from hvd.models.weights import load_checkpoint, load_into
from stages.intact import require_intact
from stages.pretrain import HEADS_FILE, build_networks, ground_view, image_features, open_data
from stages.recipes import STILL
from stages.training_specs import PretrainConfig

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Similarity:
    """Cosines of one point's feature with an image's pixels, and of its ground cell's with the image branch's cells."""

    token: str
    image: NDArray[np.uint8]  # (H, W, 3)
    uv: tuple[float, float]  # the point, in pixels of the network's input
    size: tuple[int, int]  # width and height of the network's input
    depth_m: float
    pixels: Floats | None  # (h, w) over the image; None without the image-plane view
    place: tuple[float, float]  # x, y of the point in metres, LiDAR frame
    cells: Floats | None  # (X, Y) over +-reach_m, NaN where no ray reaches; None without the bird's-eye view
    reach_m: float


def similarity(store: Store, student: Artifact, row: int, camera: int) -> Similarity:
    """The maps of the point nearest to the middle of an image, without augmentation.

    Args:
        store: holds what the student was trained on.
        student: a pre-training artifact.
        row: of the frame in its frames artifact.
        camera: number of the image.

    Raises:
        InputError: what it was trained on is gone, or no point falls in the image.
        CorruptError: the teacher's weights are other ones now.
    """
    config = _config(student).with_(point_augmentation=STILL, image_augmentation=None)
    folders = {parent["name"]: _find(store, parent) for parent in student.parents}
    data = open_data(config, {name: item.path for name, item in folders.items()})
    batch = data.batch([row], 0)
    pair = _nearest_to_middle(batch, camera, config)
    with torch.no_grad():
        networks = _load(config, student)
        teacher = None if config.cached_features else build_teacher(config.teacher)
        features = image_features(teacher, batch.pixels)
        voxels = networks.student(batch.feature, batch.coords, batch.batch_size)
        pixels = _pixel_map(networks, voxels, features, batch, pair)
        cells = _cell_map(config, networks, voxels, features, batch, pair)
    index = batch.coords[batch.pair_voxel[pair], 1:3] + batch.origin[:2]
    x, y = ((index + 0.5) * torch.tensor(config.student.voxel_edges_m[:2])).tolist()
    images = Arrays(_find(store, _parent(folders["superpixels"], "images")).path, "image")
    u, v = batch.pair_uv[pair].tolist()
    return Similarity(
        token=batch.tokens[0],
        image=np.asarray(images[row][camera]),
        uv=(u, v),
        size=(config.width, config.height),
        depth_m=float(batch.pair_depth[pair]),
        pixels=pixels,
        place=(x, y),
        cells=cells,
        reach_m=config.range_m,
    )


def frames_behind(store: Store, student: Artifact) -> int:
    """How many frames the artifact holds that a student was trained on; raises as `similarity`."""
    return len(Frames(_find(store, _parent(student, "frames")).path))


def _config(student: Artifact) -> PretrainConfig:
    """How it was trained, with the teacher's weights where they lay; a key holds their digest alone."""
    config = PretrainConfig.model_validate(student.key_inputs["config"])
    weights = student.details["sources"].get("teacher")
    if weights is None:
        return config
    digest = student.key_inputs["inputs"]["teacher"]
    return config.with_(teacher=config.teacher.with_(weights=weights, sha256=digest))


def _find(store: Store, parent: dict[str, str]) -> Artifact:
    found = store.find(parent["stage"], parent["key"])
    if found is None:
        raise InputError(f"{parent['stage']} {parent['key'][:8]} is gone", where=store.root, hint="make it anew")
    require_intact(found)
    return found


def _parent(item: Artifact, name: str) -> dict[str, str]:
    return next(parent for parent in item.parents if parent["name"] == name)


def _load(config: PretrainConfig, student: Artifact) -> Distiller:
    networks, heads = build_networks(config), student.path / HEADS_FILE
    backbone = {f"student.{name}": value for name, value in load_checkpoint(student_file(student.path)).items()}
    load_into(networks, {**backbone, **load_checkpoint(heads)}, heads)
    return networks.eval()


def _nearest_to_middle(batch: PretrainBatch, camera: int, config: PretrainConfig) -> int:
    mine = (batch.pair_image == camera).nonzero()[:, 0]
    if not len(mine):
        raise InputError(f"no point falls in image {camera}", where=batch.tokens[0])
    middle = torch.tensor([(config.width - 1) / 2, (config.height - 1) / 2])
    return int(mine[(batch.pair_uv[mine] - middle).norm(dim=1).argmin()])


def _pixel_map(networks: Distiller, voxels: Tensor, features: Tensor, batch: PretrainBatch, pair: int) -> Floats | None:
    if networks.point_head is None or networks.pixel_head is None:
        return None
    point = networks.point_head(voxels[batch.pair_voxel[pair : pair + 1]])[0]
    image = networks.pixel_head(features[batch.pair_image[pair : pair + 1]])[0]
    return torch.einsum("c,chw->hw", point, image).numpy()


def _cell_map(
    config: PretrainConfig, networks: Distiller, voxels: Tensor, features: Tensor, batch: PretrainBatch, pair: int
) -> Floats | None:
    if networks.bev is None:
        return None
    view, _, _ = ground_view(config, networks, voxels, features, batch)
    one = batch.pair_voxel[pair : pair + 1]
    cell = networks.bev.head(voxels[one], batch.coords[one], batch.origin).cell
    if not len(cell):
        return None
    mine = view.student.features[(view.student.cell == cell[0]).nonzero()[0, 0]]
    cosine = F.normalize(view.image[0], dim=1) @ mine
    seen: Floats = cosine.masked_fill(~view.reached[0], torch.nan).view(networks.bev.volume.shape[:2]).numpy()
    return seen


def student_behind(store: Store, evaluation: str) -> Artifact | None:
    """The pre-training whose student was fine-tuned into the model of an evaluation; None where any of them is gone."""
    item = store.find("eval", evaluation)
    for name in ("model", "student"):
        parent = next((parent for parent in item.parents if parent["name"] == name), None) if item else None
        item = store.find(parent["stage"], parent["key"]) if parent else None
    return item
