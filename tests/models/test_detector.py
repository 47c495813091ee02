"""The detector as a whole: it learns two synthetic sweeps by heart."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from hvd.datasets.range_voxels import collate_range, voxelize_range
from hvd.losses.detection import centre_targets
from hvd.models.bev_backbone import BevBackbone
from hvd.models.centre_head import CentreHead, CentreMaps, find_boxes
from hvd.models.detector import CentreDetector, detection_loss
from hvd.models.detector_config import (
    BevBackboneConfig,
    CentreHeadConfig,
    DecodeConfig,
    DetectionLossConfig,
    DetectorConfig,
    VoxelNetConfig,
)
from hvd.models.nms import ground_overlap

TINY = DetectorConfig(
    voxelnet=VoxelNetConfig(
        voxel_size_m=(0.2, 0.2, 0.2),
        range_min_m=(0.0, -6.4, -3.0),
        range_max_m=(12.8, 6.4, 1.8),
        stem=8,
        stages=(8, 16, 16, 16),
        out_channels=32,
        norm_momentum=0.1,
    ),
    bev=BevBackboneConfig(
        layers=(1,), strides=(1,), channels=(32,), upsample=(2,), up_channels=(32,), norm_momentum=0.1
    ),
    head=CentreHeadConfig(classes=("Car", "Pedestrian"), shared_channels=32, channels=32, norm_momentum=0.1),
)
BOXES = [
    [
        [4.0, -3.1, -1.0, 3.9, 1.6, 1.5, 0.4],
        [9.3, 2.2, -0.9, 4.2, 1.7, 1.6, -2.3],
        [6.1, 4.7, -0.8, 0.8, 0.6, 1.7, 1.2],
    ],
    [[6.6, 0.4, -1.1, 4.0, 1.6, 1.5, 3.0], [2.2, 4.1, -0.8, 0.7, 0.6, 1.8, -0.5]],
]
CLASSES = [[0, 0, 1], [0, 1]]


def _sweep(boxes: list[list[float]], seed: int) -> np.ndarray:
    """(N, 4): noisy ground, and points on the sides and tops of the boxes."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform((0, -6.4, -1.75, 0), (12.8, 6.4, -1.65, 0.3), (300, 4))
    parts = [ground]
    for x, y, z, length, width, height, yaw in boxes:
        unit = rng.uniform(-0.5, 0.5, (150, 3))
        face = rng.integers(3, size=150)
        unit[np.arange(150), face] = np.where(face == 2, 0.5, np.sign(unit[np.arange(150), face]) * 0.5)
        local = unit * (length, width, height)
        turned = local @ np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        parts.append(np.column_stack([turned + np.array([x, y, z]), np.full(150, 0.6)]))
    return np.concatenate(parts).astype(np.float32)


def _overlap_3d(found: Tensor, truth: Tensor) -> Tensor:
    """IoU (N, M) of upright boxes."""
    shared = ground_overlap(found, truth)
    area, other = found[:, 3] * found[:, 4], truth[:, 3] * truth[:, 4]
    shared = shared * (area[:, None] + other) / (1 + shared)  # intersection on the ground
    low = torch.maximum((found[:, 2] - found[:, 5] / 2)[:, None], truth[:, 2] - truth[:, 5] / 2)
    high = torch.minimum((found[:, 2] + found[:, 5] / 2)[:, None], truth[:, 2] + truth[:, 5] / 2)
    shared = shared * (high - low).clamp(min=0)
    return shared / ((area * found[:, 5])[:, None] + other * truth[:, 5] - shared)


def test_it_learns_two_sweeps_by_heart() -> None:
    torch.manual_seed(0)
    samples = [voxelize_range(_sweep(boxes, seed), TINY.voxelnet.grid) for seed, boxes in enumerate(BOXES)]
    batch = collate_range(samples, TINY.voxelnet.low)
    feature, coords = torch.from_numpy(batch.feature), torch.from_numpy(batch.coords)
    boxes, classes = [torch.tensor(b) for b in BOXES], [torch.tensor(c) for c in CLASSES]
    config = DetectionLossConfig()
    targets = centre_targets(boxes, classes, TINY.grid, 2, config)
    network = CentreDetector(TINY)
    steps = 80
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        loss = detection_loss(network(feature, coords, 2), targets, config)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = find_boxes(network.eval()(feature, coords, 2), TINY.grid, DecodeConfig(min_score=0.3))
    for sample, truth, label in zip(found, boxes, classes, strict=True):
        assert len(sample.boxes) == len(truth)
        overlap = _overlap_3d(sample.boxes, truth)
        best, which = overlap.max(dim=1)
        assert sorted(which.tolist()) == list(range(len(truth)))
        assert torch.equal(sample.classes, label[which])
        assert best.min() > 0.7
        turn = sample.boxes[:, 6] - truth[which, 6]
        assert (turn.cos() > 0.98).all()  # the right way round, too


def test_boxes_come_from_the_targets_own_maps() -> None:
    """Maps that say what the targets say give the boxes back, one for each object, best first."""
    boxes, classes = torch.tensor(BOXES[0]), torch.tensor(CLASSES[0])
    targets = centre_targets([boxes], [classes], TINY.grid, 2, DetectionLossConfig())
    code = torch.zeros(1, 8, TINY.grid.num_cells)
    code[0, :, targets.cell] = targets.code.T
    heat = targets.heat.logit(eps=1e-4)
    maps = CentreMaps(heat, code.view(1, 8, *TINY.grid.shape))
    (found,) = find_boxes(maps, TINY.grid, DecodeConfig())
    assert (found.scores > 0.99).all()
    order = [int(row) for row in (found.boxes[:, None, :2] - boxes[:, :2]).norm(dim=2).argmin(dim=1)]
    assert sorted(order) == [0, 1, 2]
    torch.testing.assert_close(found.boxes, boxes[order])
    assert torch.equal(found.classes, classes[order])
    (one,) = find_boxes(maps, TINY.grid, DecodeConfig(candidates=1))
    assert len(one.boxes) == 1
    maps.heat.fill_(-20)
    (none,) = find_boxes(maps, TINY.grid, DecodeConfig())
    assert none.boxes.shape == (0, 7) and none.scores.shape == none.classes.shape == (0,)


def test_what_is_no_peak_is_no_box_however_low_the_score_may_be() -> None:
    """Heat that rises from cell to cell has one peak for each class."""
    cells = TINY.grid.num_cells
    heat = torch.linspace(-3, 3, cells).expand(1, 2, cells).reshape(1, 2, *TINY.grid.shape)
    maps = CentreMaps(heat, torch.zeros(1, 8, *TINY.grid.shape))
    (found,) = find_boxes(maps, TINY.grid, DecodeConfig(min_score=0.0, max_overlap=1.0))
    assert sorted(found.classes.tolist()) == [0, 1]


def test_an_untrained_heads_heat_is_its_prior() -> None:
    head = CentreHead(CentreHeadConfig(), 4)
    torch.nn.init.zeros_(head.branches["heat"][1].weight)
    maps = head(torch.randn(2, 4, 6, 8))
    torch.testing.assert_close(maps.heat.sigmoid(), torch.full((2, 3, 6, 8), 0.1))
    assert maps.code.shape == (2, 8, 6, 8)


def test_a_backbone_may_end_finer_than_its_map() -> None:
    config = BevBackboneConfig(layers=(1, 1), channels=(4, 6), upsample=(2, 4), up_channels=(3, 5))
    assert BevBackbone(config, 7)(torch.randn(2, 7, 6, 8)).shape == (2, 8, 12, 16)
    assert config.refinement == 2
    with pytest.raises(ValidationError, match="one resolution"):
        BevBackboneConfig(upsample=(1, 4))
    with pytest.raises(ValidationError, match="one length"):
        BevBackboneConfig(layers=(1, 2, 3))


def test_a_map_that_is_no_whole_number_of_blocks_is_refused() -> None:
    odd = TINY.voxelnet.with_(range_max_m=(14.4, 6.4, 1.8))  # 9 cells
    with pytest.raises(ValidationError, match="total stride 2"):
        DetectorConfig(voxelnet=odd)
