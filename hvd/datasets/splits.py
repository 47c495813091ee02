"""Which scenes train and which are scored, and which items of the training part carry labels."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from hvd.errors import InputError, UsageError

Unit = Literal["scene", "frame"]
Splits = dict[str, tuple[str, ...]]

LABEL_UNIT: dict[str, Unit] = {
    "nuscenes": "scene",
    "semkitti": "frame",
    "kitti": "frame",
}  # what a share of labels counts

SPLIT_KINDS = ("paper", "parametrize")
SPLITS_FILE = "splits.json"
"""A data set that brings this file, {kind: {split: [scene, ...]}}, replaces the official lists."""

OTHER_SPLIT = "choose another with --split (of pretrain: --set pretrain.split=all), or bring a splits.json"

_ACCEPTED = 'write a share such as 1%, 0.5% or 100%, or a count such as "12-frames"'

SLIDR_HELD_OUT = tuple(
    f"scene-{number:04d}"
    for number in (
        *(8, 9, 19, 29, 32, 42, 45, 49, 52, 54, 56, 66, 67, 73, 131, 152, 166, 168, 183, 190),
        *(194, 208, 210, 211, 241, 243, 248, 259, 260, 261, 287, 292, 297, 305, 306, 350, 352, 358, 361, 365),
        *(368, 377, 388, 391, 395, 413, 427, 428, 438, 444, 452, 453, 459, 463, 464, 475, 513, 533, 544, 575),
        *(587, 589, 642, 652, 658, 669, 678, 687, 701, 703, 706, 710, 715, 726, 735, 740, 758, 786, 790, 804),
        *(806, 847, 856, 868, 882, 897, 899, 976, 996, 1012),
        *(1015, 1016, 1018, 1020, 1024, 1044, 1058, 1094, 1098, 1107),
    )
)
"""The 100 nuScenes training scenes that SLidR (arXiv 2203.16258) holds out to choose hyper-parameters on."""

SEMANTICKITTI_PAPER: Mapping[str, tuple[str, ...]] = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(str(sequence) for sequence in range(11, 22)),
}

SEMANTICKITTI_HELD_OUT = "07"
"""The training sequence that `parametrize` holds out: 1101 of its 19130 sweeps."""

SEMANTICKITTI_PARAMETRIZE: Mapping[str, tuple[str, ...]] = {
    "train": tuple(name for name in SEMANTICKITTI_PAPER["train"] if name != SEMANTICKITTI_HELD_OUT),
    "val": (SEMANTICKITTI_HELD_OUT,),
}


def parametrize(train: Sequence[str]) -> Splits:
    """The official nuScenes training scenes split in 600 to train on and 100 to choose hyper-parameters on."""
    held_out = set(SLIDR_HELD_OUT)
    return {"train": tuple(scene for scene in train if scene not in held_out), "val": SLIDR_HELD_OUT}


def present(splits: Mapping[str, Sequence[str]], scenes: set[str]) -> Splits:
    """Each split's scenes, only those that are in `scenes`."""
    return {split: tuple(name for name in names if name in scenes) for split, names in splits.items()}


def own_splits(root: Path, kind: str) -> Splits | None:
    """The splits of `kind` that the data set brings along, or None if it brings none.

    Raises:
        InputError: the file is not {kind: {split: [scene, ...]}}, or has none of kind `paper`.
    """
    path = root / SPLITS_FILE
    if not path.is_file():
        return None
    try:
        kinds = json.loads(path.read_text(encoding="utf8"))
        splits = kinds[kind] if kind in kinds or kind == "paper" else {}
        return {str(split): _names(names) for split, names in splits.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("bad splits file", where=path, why=f"{type(error).__name__}: {error}") from None


def splits_of(root: Path, kind: str, official: Callable[[str], Splits]) -> Splits:
    """The data set's own splits of `kind`, or the official ones where it brings none; raises as `own_splits` does."""
    own = own_splits(root, kind)
    return official(kind) if own is None else own


def _names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("a split is a list of scene names")
    return tuple(names)


def labelled(count: int, fraction: Fraction, offset: int = 0) -> list[int]:
    """The labelled ones of `count` items: i where ((i - offset) p) mod 1 < p, in exact fractions.

    p = 1/100 and no offset give every hundredth item, from the first.
    """
    return [i for i in range(count) if ((i - offset) * fraction) % 1 < fraction]


@dataclass(frozen=True)
class LabelBudget:
    """How much of the training part is labelled: a share of its scenes or frames, or a number of frames."""

    text: str
    share: Fraction | None
    frames: int | None

    @classmethod
    def parse(cls, text: str) -> "LabelBudget":
        """Read `1%`, `0.5%`, `100%` or `12-frames`.

        Raises:
            UsageError: anything else, a share outside (0, 100] % or no frames, with the accepted form.
        """
        text = text.strip()
        if match := re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)%", text, re.ASCII):
            share = Fraction(match[1]) / 100
            if 0 < share <= 1:
                return cls(text, share, None)
        elif (match := re.fullmatch(r"(\d{1,9})-frames", text, re.ASCII)) and int(match[1]) > 0:
            return cls(text, None, int(match[1]))
        raise UsageError(f"bad labelled part {text!r}", hint=_ACCEPTED)

    def select(self, scenes: Sequence[str], offset: int, unit: Unit) -> list[int]:
        """The labelled frames.

        Args:
            scenes: the scene of each training frame, in order.
            offset: shifts the choice.
            unit: what a share counts; a number of frames always counts frames.

        Returns:
            Ascending frame indices, never none.

        Raises:
            UsageError: more frames asked for than there are, or none chosen.
        """
        if self.frames is not None:
            if self.frames > len(scenes):
                count = f"{len(scenes)} frame{'' if len(scenes) == 1 else 's'}"
                raise UsageError(f"cannot label {self.text}: the training split has only {count}",
                                 hint="label fewer, or all: --labels 100%")  # fmt: skip
            chosen = labelled(len(scenes), Fraction(self.frames, len(scenes)), offset)
        elif self.share is not None and unit == "frame":
            chosen = labelled(len(scenes), self.share, offset)
        else:
            chosen = self._in_labelled_scenes(scenes, offset)
        if not chosen:
            raise UsageError(f"--labels {self.text} with offset {offset} chooses nothing", hint="lower --label-offset")
        return chosen

    def _in_labelled_scenes(self, scenes: Sequence[str], offset: int) -> list[int]:
        ordered = list(dict.fromkeys(scenes))
        kept = {ordered[i] for i in labelled(len(ordered), self.share or Fraction(1), offset)}
        return [i for i, scene in enumerate(scenes) if scene in kept]
