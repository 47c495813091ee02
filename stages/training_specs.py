"""Frozen configurations of the stages that train. Torch-free, as `stages.specs`."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from hvd.config import Config
from hvd.datasets.augment_config import ImageAugmentation, PointAugmentation
from hvd.datasets.box_augment_config import BoxAugmentation, ObjectSampling
from hvd.errors import UsageError
from hvd.geometry.cells import whole_cells
from hvd.models.config import BevHeadConfig, StudentConfig, UNetConfig
from hvd.models.detector_config import DetectionLossConfig, DetectorConfig, VoxelNetConfig
from hvd.models.teacher_config import DepthBins, DepthNetConfig, TeacherConfig
from stages.specs import BoxesOf, Count, DatasetName, NonNegative, ObjectName, Positive, View


class Sgd(Config):
    """Stochastic gradient descent with a cosine schedule to zero."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive
    momentum: NonNegative = 0.9
    dampening: NonNegative = 0.1
    weight_decay: NonNegative = 1e-4


class AdamW(Config):
    """AdamW with a one-cycle schedule."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive
    weight_decay: NonNegative = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2


Optimizer = Annotated[Sgd | AdamW, Field(discriminator="kind")]


class Schedule(Config):
    """How long a training runs, in `steps` or in `epochs`, and what every training shares."""

    steps: Count | None = None
    epochs: Count | None = None
    batch: Count = 16
    seed: int = 0
    threads: Count = 2
    amp: bool = False  # bf16 for dense convolutions and linear layers
    save_every: Count = 200  # steps between checkpoints

    @model_validator(mode="after")
    def _has_one_length(self) -> "Schedule":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give steps or epochs, one of them")
        return self

    def total_steps(self, num_items: int) -> int:
        """Optimiser steps for a training set of `num_items` samples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, -(-self.epochs * num_items // self.batch))


class IpvConfig(Config):
    """Image-plane view: superpixel-driven InfoNCE (SLidR), or point-pixel InfoNCE on `pairs` drawn pairs (PPKT)."""

    weight: Positive = 1.0
    method: Literal["superpixel", "ppkt"] = "superpixel"
    pairs: Count = 4096
    full_resolution: bool = True  # pool the pixel features upsampled to the input size (paper), or at the feature cells


class BevConfig(Config):
    """Bird's-eye view: grid, learnt depth, splat, InfoNCE between cells (metres; weights per loss term)."""

    weight: Positive = 0.25
    cells: Count = 4096  # per loss: of a batch, or of each of its parts where it is accumulated
    cell_m: Positive = 0.4
    head: BevHeadConfig
    depth_net: DepthNetConfig
    depth_bins: DepthBins
    depth_loss: Literal["ce", "bce"] = "bce"
    depth_weight: Positive = 60.0
    min_weight: NonNegative = 0.0
    depth: Literal["learned", "uniform"] = "learned"  # uniform: every bin alike, to see what learning it is worth
    lift: Literal["measured"] | None = None  # measured: only feature cells with a LiDAR depth; None: all, as the paper
    min_voxels: Count | None = None  # of a pillar that is compared; None: any
    weigh_up_to: Count | None = None  # a cell counts as its pillar has voxels, up to this many; None: all alike
    geometry: Literal["exact", "release"] = "exact"  # release: wrong as in the paper's code, to see what that costs


class PretrainConfig(Schedule):
    """Distillation from images to LiDAR."""

    views: tuple[View, ...]
    split: Literal["train", "val", "all"] = "train"
    splits: Literal["paper", "parametrize"] = "paper"
    height: Count = 224
    width: Count = 416
    channels: Count = 64
    temperature: Positive = 0.07
    accumulate: Count = 1
    range_m: Positive = 51.2
    z_min_m: float = -5.0
    z_max_m: float = 3.0
    occlusion_filter: bool = False
    student: StudentConfig
    teacher: TeacherConfig
    cached_features: bool = False
    optimizer: Optimizer
    point_augmentation: PointAugmentation
    image_augmentation: ImageAugmentation | None = None
    ipv: IpvConfig | None = None
    bev: BevConfig | None = None

    @field_validator("views", mode="before")
    @classmethod
    def _split_views(cls, value: Any) -> Any:
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple):
            return names  # refused as no tuple
        names = [name.strip() if isinstance(name, str) else name for name in names]
        return tuple(v for v in ("ipv", "bev") if v in names) + tuple(v for v in names if v not in ("ipv", "bev"))

    @model_validator(mode="after")
    def _consistent(self) -> "PretrainConfig":
        if not self.views:
            raise ValueError("views is empty: give ipv, bev, or ipv,bev")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} is no multiple of accumulate {self.accumulate}")
        if self.cached_features and self.image_augmentation is not None:
            raise ValueError(
                "cached_features and image_augmentation exclude each other: features are cached unaugmented"
            )
        if self.z_min_m >= self.z_max_m:
            raise ValueError(f"z_min_m {self.z_min_m:g} is not below z_max_m {self.z_max_m:g}")
        if self.bev is not None:
            whole_cells(-self.range_m, self.range_m, self.bev.cell_m)
        self._check_student_sees_the_range()
        return self

    def _check_student_sees_the_range(self) -> None:
        low, high = (-self.range_m, -self.range_m, self.z_min_m), (self.range_m, self.range_m, self.z_max_m)
        if isinstance(self.student, VoxelNetConfig) and not self.student.covers(low, high):
            raise ValueError(
                f"range_m, z_min_m and z_max_m keep points from {low} to {high} m, more than the student's range:"
                " widen student.range_min_m and student.range_max_m"
            )

    def require_two_images(self, cameras: int) -> None:
        """Raises UsageError if a part of a batch holds one image only: the depth network normalises over images."""
        if self.bev is not None and self.batch // self.accumulate * cameras < 2:
            why = f"batch {self.batch}, accumulate {self.accumulate}, {cameras} camera"
            hint = f"--set pretrain.batch={2 * self.accumulate}"
            raise UsageError("the bev view needs two images at a time", why=why, hint=hint)

    def only_views(self) -> "PretrainConfig":
        """Without the slices of views that are off, so that the key holds only what can matter."""
        return self.with_(**{view: None for view in ("ipv", "bev") if view not in self.views})


class FinetuneConfig(Schedule):
    """Segmentation from few labels; `labels` as on the command line (1%, 12-frames)."""

    dataset: DatasetName
    labels: str = "1%"
    label_offset: Annotated[int, Field(ge=0)] = 0
    splits: Literal["paper", "parametrize"] = "paper"
    split: Literal["train", "val", "all"] = "train"
    linear_probe: bool = False
    cached_features: bool = False  # linear probing on backbone features computed once, unaugmented
    reestimate_norm: bool = False  # random init's second variant: batch-norm statistics from the training frames
    student: UNetConfig
    optimizer: Optimizer
    head_lr: Positive
    lovasz: bool = True
    point_augmentation: PointAugmentation

    @model_validator(mode="after")
    def _cached_features_are_of_a_fixed_network_and_sweep(self) -> "FinetuneConfig":
        if self.cached_features and not self.linear_probe:
            raise ValueError("cached_features trains the head alone: set linear_probe too, or cached_features=false")
        if self.cached_features and self.point_augmentation != PointAugmentation():
            raise ValueError(
                "cached_features and point_augmentation exclude each other: features are cached unaugmented"
            )
        return self

    @model_validator(mode="after")
    def _all_of_it_matters(self) -> "FinetuneConfig":
        if self.point_augmentation.drop_cuboid:
            raise ValueError("point_augmentation.drop_cuboid is of pre-training: here nothing is cut")
        if self.linear_probe and self.optimizer.lr != self.head_lr:
            raise ValueError(
                f"a linear probe trains the head alone: optimizer.lr {self.optimizer.lr:g} is not head_lr"
                f" {self.head_lr:g}, set both"
            )
        if self.cached_features and self.amp:
            raise ValueError("cached_features and amp exclude each other: the head alone trains, in full precision")
        return self


class DetectFinetuneConfig(Schedule):
    """A detector from few labels; `labels` as on the command line (5%, 12-frames), a share of the training frames."""

    dataset: BoxesOf = "kitti"
    labels: str = "5%"
    label_offset: Annotated[int, Field(ge=0)] = 0
    splits: Literal["paper", "parametrize"] = "paper"
    split: Literal["train", "val", "all"] = "train"
    detector: DetectorConfig
    optimizer: Optimizer  # its rate is the pre-trained encoder's
    head_lr: Positive  # of the ground network and the head, which begin at random
    clip_norm: Positive = 10.0  # of all gradients together
    loss: DetectionLossConfig = DetectionLossConfig()
    augmentation: BoxAugmentation
    sampling: ObjectSampling | None = None

    @model_validator(mode="after")
    def _classes_are_known(self) -> "DetectFinetuneConfig":
        classes = self.detector.head.classes
        sampled = [name for name, _ in self.sampling.up_to] if self.sampling else []
        if unknown := sorted({*classes, *sampled} - set(get_args(ObjectName))):
            raise ValueError(f"unknown class {', '.join(unknown)}: valid are {', '.join(get_args(ObjectName))}")
        for names in (classes, sampled):
            if len(set(names)) < len(names):
                raise ValueError(f"a class is named twice in {', '.join(names)}")
        if sampled and not {*sampled} & {*classes}:
            raise ValueError(f"sampling is of {', '.join(sampled)}, the detector of {', '.join(classes)}")
        return self
