"""KITTI's average precision, as the benchmark's own program (evaluate_object.cpp, 40 recall points) counts it.

Source of every rule: the object development kit. D detections and G true objects of all frames, T score thresholds.
A detection is matched within its frame, class by class and difficulty by difficulty:

- A true object counts if it is of the class and as visible as the difficulty asks; if it is less visible, or of a
  neighbouring class, it may take a detection, and then neither of the two counts.
- A detection less than the minimum height high may be taken, whatever its class, and then nothing counts; it is no
  false positive. Others count if they are of the class.
- First every true object, in the file's order, takes the best-scored detection that overlaps it enough; the scores of
  those pairs, sorted, give up to 41 thresholds at evenly spaced recall. Then at each threshold every true object takes
  the one that overlaps it most, a low one only if there is no other.
- What nobody took is a false positive unless it lies in a DontCare area. That overlap is of the measure's kind: labels
  give the areas no place in 3D, so that on the ground and in 3D they hide nothing.
- Precision at a threshold is the largest at it or after it; AP is the mean over the points 1 to 40, counted from 0.

Perfect detections of n < 41 objects yield n thresholds, so AP is (n - 1) / 40 and not 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvd.datasets.kitti_files import DONT_CARE, Objects
from hvd.geometry.se3 import Float64
from hvd.metrics.object_pairs import Gathered, Kind, Pairs, gather, overlapping

Measure = Literal["2d", "aos", "bev", "3d"]
Difficulty = Literal["easy", "moderate", "hard"]
Curves = dict[tuple[Measure, str, Difficulty], Float64]

MEASURES: tuple[Measure, ...] = ("2d", "aos", "bev", "3d")
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "moderate", "hard")
MIN_OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
"""The classes that are scored, and the overlap that a match must exceed, in every measure."""

_NEIGHBOUR = {"Car": "Van", "Pedestrian": "Person_sitting"}
_MIN_HEIGHT_PX = {"easy": 40, "moderate": 25, "hard": 25}
_MAX_OCCLUSION = {"easy": 0, "moderate": 1, "hard": 2}
_MAX_TRUNCATION = {"easy": 0.15, "moderate": 0.30, "hard": 0.50}
_RECALL_POINTS = 41
_UNKNOWN_ANGLE = -10.0
_UNKNOWN_PLACE = -1000.0

_COUNTS, _IGNORED, _OTHER = 0, 1, -1  # what an object is to the class and difficulty at hand


@dataclass(frozen=True)
class Evaluation:
    """Precision by recall of every measure, class and difficulty.

    Attributes:
        curves: (41,) precision, or for "aos" orientation similarity, at recall 0, 1/40, .. 1; no "aos" where a
            detection gives no angle.
    """

    curves: Curves

    def ap(self, measure: Measure, name: str, difficulty: Difficulty) -> float:
        """Average precision in percent: the mean over recall 1/40 .. 1.

        Raises:
            KeyError: not measured.
        """
        return float(100 * self.curves[measure, name, difficulty][1:].mean())

    def table(self) -> dict[str, float]:
        """All average precisions in percent, by "measure/class/difficulty"."""
        return {"/".join(key): self.ap(*key) for key in self.curves}


def evaluate(truth: Sequence[Objects], detections: Sequence[Objects]) -> Evaluation:
    """Score detections.

    Args:
        truth: the labelled objects of each frame.
        detections: what was detected in each, with scores; the same frames in the same order.

    Returns:
        Curves of zeros for a class that is never detected; the program prints nothing then. Where no detection counts
        at a threshold, nor is false, precision is 0 here; the program divides 0 by 0 then.

    Raises:
        ValueError: the numbers of frames differ, or detections have no scores.
    """
    if len(truth) != len(detections) or any(found.score is None for found in detections):
        raise ValueError(f"{len(truth)} frames of truth, {len(detections)} of detections, each of these with scores")
    true, found = gather(truth), gather(detections)
    oriented = not (found.objects.alpha == _UNKNOWN_ANGLE).any()
    curves: Curves = {}
    for kind in ("2d", "bev", "3d"):
        pairs = overlapping(kind, true, found)
        for name in MIN_OVERLAP:
            for difficulty in DIFFICULTIES:
                precision, similarity = _curve(kind, name, difficulty, true, found, pairs)
                curves[kind, name, difficulty] = precision
                if kind == "2d" and oriented:
                    curves["aos", name, difficulty] = similarity
    return Evaluation(curves)


def count_true(truth: Sequence[Objects]) -> dict[str, dict[Difficulty, int]]:
    """How many true objects count, by class and difficulty."""
    gathered = gather(truth)
    return {
        name: {level: int((_truth_state(name, level, gathered) == _COUNTS).sum()) for level in DIFFICULTIES}
        for name in MIN_OVERLAP
    }


def _curve(
    kind: Kind, name: str, difficulty: Difficulty, true: Gathered, found: Gathered, pairs: Pairs
) -> tuple[Float64, Float64]:
    """Precision and orientation similarity (41,) at the recall points."""
    precision, similarity = np.zeros((2, _RECALL_POINTS))
    if not _is_detected(kind, name, found):
        return precision, similarity
    truth_state = _truth_state(name, difficulty, true)
    found_state = _found_state(name, difficulty, found)
    stuff = _in_dont_care(name, true, found, pairs)
    relevant = (
        (pairs.iou > MIN_OVERLAP[name]) & (truth_state[pairs.true] != _OTHER) & (found_state[pairs.found] != _OTHER)
    )
    candidates = _candidates(pairs, relevant)
    scores = _matched_scores(candidates, truth_state, found_state, found.score)
    thresholds = np.array(recall_thresholds(scores, int((truth_state == _COUNTS).sum())))
    matches = _match(candidates, truth_state, found_state, found.score, thresholds)
    false = _false_positives(matches.taken, (found_state == _COUNTS) & ~stuff, found.score, thresholds)
    hits, alike = _true_positives(matches, true.objects.alpha, found.objects.alpha)
    count = np.maximum(hits + false, 1)
    precision[: len(thresholds)] = _best_from(hits / count)
    similarity[: len(thresholds)] = _best_from(alike / count)
    return precision, similarity


def _best_from(values: Float64) -> Float64:
    """The running maximum from the right."""
    best: Float64 = np.maximum.accumulate(values[::-1])[::-1]
    return best


def _is_detected(kind: Kind, name: str, found: Gathered) -> bool:
    """Whether the class is detected at all, with what the measure needs."""
    height, width, length, x, y, z, _ = found.objects.box3d.T
    on_ground = (x != _UNKNOWN_PLACE) & (z != _UNKNOWN_PLACE) & (width > 0) & (length > 0)
    given = {
        "2d": found.objects.box2d[:, 0] >= 0,
        "bev": on_ground,
        "3d": on_ground & (y != _UNKNOWN_PLACE) & (height > 0),
    }
    return bool((given[kind] & (found.types == name)).any())


def _truth_state(name: str, difficulty: Difficulty, true: Gathered) -> NDArray[np.int64]:
    """What true objects (G,) are to a class and difficulty."""
    hidden = (
        (true.objects.occlusion > _MAX_OCCLUSION[difficulty])
        | (true.objects.truncation > _MAX_TRUNCATION[difficulty])
        | (true.height_px <= _MIN_HEIGHT_PX[difficulty])
    )
    own = np.where(hidden, _IGNORED, _COUNTS)
    neighbour = true.types == _NEIGHBOUR.get(name, "")
    return np.where(true.types == name, own, np.where(neighbour, _IGNORED, _OTHER))


def _found_state(name: str, difficulty: Difficulty, found: Gathered) -> NDArray[np.int64]:
    """What detections (D,) are to a class and difficulty; one that is too low is ignored whatever its class."""
    low = np.abs(found.height_px) < _MIN_HEIGHT_PX[difficulty]
    return np.where(low, _IGNORED, np.where(found.types == name, _COUNTS, _OTHER))


def _in_dont_care(name: str, true: Gathered, found: Gathered, pairs: Pairs) -> NDArray[np.bool_]:
    """Which detections (D,) lie in a DontCare area with enough of themselves."""
    covered = (true.types[pairs.true] == DONT_CARE) & (pairs.share > MIN_OVERLAP[name])
    stuff = np.zeros(len(found.types), np.bool_)
    stuff[pairs.found[covered]] = True
    return stuff


_Candidates = list[tuple[int, list[int], list[float]]]  # true object; its detections in file order; their overlaps


def _candidates(pairs: Pairs, relevant: NDArray[np.bool_]) -> _Candidates:
    rows = zip(pairs.true[relevant].tolist(), pairs.found[relevant].tolist(), pairs.iou[relevant].tolist(), strict=True)
    grouped = ((g, list(group)) for g, group in groupby(rows, key=lambda row: row[0]))
    return [(g, [row[1] for row in group], [row[2] for row in group]) for g, group in grouped]


def _matched_scores(
    candidates: _Candidates, truth_state: NDArray[np.int64], found_state: NDArray[np.int64], score: Float64
) -> list[float]:
    """Scores of the true positives when every true object takes its best-scored candidate that is left."""
    taken: set[int] = set()
    scores = []
    for g, found, _ in candidates:
        left = [d for d in found if d not in taken]
        if not left:
            continue
        best = max(left, key=lambda d: score[d])  # the first of equals
        taken.add(best)
        if truth_state[g] == _COUNTS and found_state[best] == _COUNTS:
            scores.append(float(score[best]))
    return scores


def recall_thresholds(scores: Sequence[float], num_true: int) -> list[float]:
    """The scores, descending, at which recall comes nearest to 0, 1/40, 2/40, ...: at most 41.

    Args:
        scores: of the true positives.
        num_true: true objects that count, at least as many.
    """
    thresholds: list[float] = []
    wanted = 0.0
    ordered = sorted(scores, reverse=True)
    for i, score in enumerate(ordered):
        last = i == len(ordered) - 1
        here, beyond = (i + 1) / num_true, (i + 2) / num_true
        if last or beyond - wanted >= wanted - here:  # the next score would not come nearer
            thresholds.append(score)
            wanted += 1 / (_RECALL_POINTS - 1)
    return thresholds


class _Matches(NamedTuple):
    """Who took whom at each threshold."""

    taken: NDArray[np.bool_]  # (T, D)
    hit: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]  # true object, thresholds, its detection at each


def _match(
    candidates: _Candidates,
    truth_state: NDArray[np.int64],
    found_state: NDArray[np.int64],
    score: Float64,
    thresholds: Float64,
) -> _Matches:
    """At each threshold, let every true object take the candidate that overlaps it most, of those that are left."""
    taken = np.zeros((len(thresholds), len(score)), np.bool_)
    hit = []
    for g, found, overlaps in candidates:
        d = np.array(found)
        order = np.lexsort((np.arange(len(d)), np.where(found_state[d] == _COUNTS, -np.array(overlaps), 0.0)))
        d = d[order]  # those that count first, the most overlapping before; then the low ones in the file's order
        free = ~taken[:, d] & (score[d] >= thresholds[:, None])  # (T, candidates)
        at = np.flatnonzero(free.any(axis=1))
        chosen = d[free[at].argmax(axis=1)]
        taken[at, chosen] = True
        if truth_state[g] == _COUNTS:
            counts = found_state[chosen] == _COUNTS
            hit.append((g, at[counts], chosen[counts]))
    return _Matches(taken, hit)


def _true_positives(matches: _Matches, alpha_true: Float64, alpha_found: Float64) -> tuple[Float64, Float64]:
    """How many at each threshold (T,), and the sum of (1 + cos(difference of angles)) / 2 over them (T,)."""
    hits, alike = np.zeros((2, len(matches.taken)))
    for g, at, chosen in matches.hit:
        hits[at] += 1
        alike[at] += (1 + np.cos(alpha_true[g] - alpha_found[chosen])) / 2
    return hits, alike


def _false_positives(
    taken: NDArray[np.bool_], may_be_false: NDArray[np.bool_], score: Float64, thresholds: Float64
) -> NDArray[np.int64]:
    """How many detections nobody took at each threshold: (T,)."""
    rows = np.flatnonzero(may_be_false)
    false: NDArray[np.int64] = (~taken[:, rows] & (score[rows] >= thresholds[:, None])).sum(axis=1)
    return false
