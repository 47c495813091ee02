"""The whole detector: sparse encoder, bird's-eye-view network, centre head."""

import torch
from torch import Tensor, nn

from hvd.losses.detection import CentreTargets, box_loss, heat_loss
from hvd.models.bev_backbone import BevBackbone
from hvd.models.centre_head import CentreHead, CentreMaps
from hvd.models.detector_config import DetectionLossConfig, DetectorConfig
from hvd.models.voxelnet import VoxelNet


class CentreDetector(nn.Module):
    """Maps of a batch of voxelised sweeps; `backbone` is what pre-training gives."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = VoxelNet(config.voxelnet)
        self.neck = BevBackbone(config.bev, config.voxelnet.bev_channels)
        self.head = CentreHead(config.head, self.neck.out_channels)

    def forward(self, feature: Tensor, coords: Tensor, batch_size: int) -> CentreMaps:
        """Voxels as VoxelNet.encode takes them -> maps over `config.grid`; `find_boxes` reads them."""
        bev = self.backbone.encode(feature, coords, batch_size).bev()
        # Convolutions forward and backward take three quarters of the time on a CPU with the channels innermost.
        maps: CentreMaps = self.head(self.neck(bev.contiguous(memory_format=torch.channels_last)))
        return maps


def detection_loss(maps: CentreMaps, targets: CentreTargets, config: DetectionLossConfig) -> dict[str, Tensor]:
    """The terms; `loss` is their weighted sum."""
    heat = heat_loss(maps.heat, targets.heat)
    box = box_loss(maps.code, targets.cell, targets.code)
    return {"loss": heat + config.box_weight * box, "heat": heat, "box": box}
