"""KITTI's average precision once more, plainly: loops, shapely for polygons, nothing shared with hvd.

Written from the protocol, to be read beside it, and slow.
"""

from dataclasses import dataclass
from math import cos, sin

from shapely.geometry import Polygon

OVERLAP_NEEDED = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
HEIGHT_NEEDED = {"easy": 40, "moderate": 25, "hard": 25}
OCCLUSION_ALLOWED = {"easy": 0, "moderate": 1, "hard": 2}
TRUNCATION_ALLOWED = {"easy": 0.15, "moderate": 0.3, "hard": 0.5}
KIN = {("Car", "Van"), ("Pedestrian", "Person_sitting")}


@dataclass(eq=False)
class Thing:
    """One line of a file."""

    name: str
    truncation: float
    occlusion: float
    alpha: float
    left: float
    top: float
    right: float
    bottom: float
    h: float
    w: float
    l: float  # noqa: E741
    x: float
    y: float
    z: float
    ry: float
    score: float = 0.0

    def outline(self) -> Polygon:
        ends = [
            (self.l / 2, self.w / 2),
            (self.l / 2, -self.w / 2),
            (-self.l / 2, -self.w / 2),
            (-self.l / 2, self.w / 2),
        ]
        c, s = cos(self.ry), sin(self.ry)
        return Polygon([(self.x + c * a + s * b, self.z - s * a + c * b) for a, b in ends])


def parse(text: str) -> list[Thing]:
    """The things of a label or a result file."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return [Thing(row[0], *(float(word) for word in row[1:])) for row in rows]


def sizes(measure: str, a: Thing, b: Thing) -> tuple[float, float, float]:
    """What two things have in common, and what each of them has."""
    if measure == "2d":
        width = min(a.right, b.right) - max(a.left, b.left)
        height = min(a.bottom, b.bottom) - max(a.top, b.top)
        common = width * height if width > 0 and height > 0 else 0.0
        return common, (a.right - a.left) * (a.bottom - a.top), (b.right - b.left) * (b.bottom - b.top)
    if (a.x - b.x) ** 2 + (a.z - b.z) ** 2 > ((a.l + a.w + b.l + b.w) / 2) ** 2:
        return 0.0, 1.0, 1.0
    ground_a, ground_b = a.outline(), b.outline()
    common = ground_a.intersection(ground_b).area
    if measure == "bev":
        return common, ground_a.area, ground_b.area
    tall = min(a.y, b.y) - max(a.y - a.h, b.y - b.h)
    return common * max(0.0, tall), a.h * a.w * a.l, b.h * b.w * b.l


class Frame:
    """One frame for one measure, class and difficulty."""

    def __init__(self, measure: str, name: str, difficulty: str, truth: list[Thing], found: list[Thing], cache: dict):
        self.measure, self.needed, self.cache = measure, OVERLAP_NEEDED[name], cache
        self.truth = []  # (thing, does it count)
        for thing in truth:
            small = thing.bottom - thing.top <= HEIGHT_NEEDED[difficulty]
            occluded = thing.occlusion > OCCLUSION_ALLOWED[difficulty]
            truncated = thing.truncation > TRUNCATION_ALLOWED[difficulty]
            if thing.name == name:
                self.truth.append((thing, not (small or occluded or truncated)))
            elif (name, thing.name) in KIN:
                self.truth.append((thing, False))
        self.areas = [thing for thing in truth if thing.name == "DontCare"]
        self.found = []  # (thing, does it count)
        for thing in found:
            if int(abs(thing.top - thing.bottom)) < HEIGHT_NEEDED[difficulty]:
                self.found.append((thing, False))
            elif thing.name == name:
                self.found.append((thing, True))

    def common(self, found: Thing, true: Thing) -> tuple[float, float, float]:
        key = (self.measure, id(found), id(true))
        if key not in self.cache:
            self.cache[key] = sizes(self.measure, found, true)
        return self.cache[key]

    def iou(self, found: Thing, true: Thing) -> float:
        common, a, b = self.common(found, true)
        return common / (a + b - common) if common > 0 else 0.0

    def scores(self) -> list[float]:
        """Of the true positives, when the best score wins."""
        used: list[Thing] = []
        scores = []
        for true, counts in self.truth:
            winner, winner_counts = None, False
            for found, found_counts in self.found:
                if any(found is other for other in used) or not self.iou(found, true) > self.needed:
                    continue
                if winner is None or found.score > winner.score:
                    winner, winner_counts = found, found_counts
            if winner is None:
                continue
            used.append(winner)
            if counts and winner_counts:
                scores.append(winner.score)
        return scores

    def tally(self, threshold: float) -> tuple[int, int, float]:
        """True positives, false positives and summed similarity of angles, when the largest overlap wins."""
        left = [(found, counts) for found, counts in self.found if not found.score < threshold]
        hits, alike = 0, 0.0
        for true, counts in self.truth:
            proper = [f for f, valid in left if valid and self.iou(f, true) > self.needed]
            low = [f for f, valid in left if not valid and self.iou(f, true) > self.needed]
            if not proper and not low:
                continue
            winner = low[0] if not proper else proper[0]
            for found in proper:
                if self.iou(found, true) > self.iou(winner, true):
                    winner = found
            left = [(f, valid) for f, valid in left if f is not winner]
            if counts and proper:
                hits += 1
                alike += (1 + cos(true.alpha - winner.alpha)) / 2
        false = 0
        for found, valid in left:
            if not valid:
                continue
            shares = [self.common(found, area)[0] / self.common(found, area)[1] for area in self.areas]
            if not any(share > self.needed for share in shares):
                false += 1
        return hits, false, alike


def thresholds_of(scores: list[float], total: int) -> list[float]:
    """Scores at which recall steps by a fortieth."""
    scores = sorted(scores)[::-1]
    chosen, step = [], 0.0
    for i in range(len(scores)):
        is_last = i + 1 == len(scores)
        recall_now = (i + 1) / total
        recall_next = recall_now if is_last else (i + 2) / total
        if recall_next - step < step - recall_now and not is_last:
            continue
        chosen.append(scores[i])
        step += 1.0 / 40.0
    return chosen


def average_precision(
    measure: str, name: str, difficulty: str, truth: list[list[Thing]], found: list[list[Thing]]
) -> tuple[float, float]:
    """AP and orientation similarity in percent."""
    cache: dict = {}
    frames = [Frame(measure, name, difficulty, t, f, cache) for t, f in zip(truth, found, strict=True)]
    total = sum(counts for frame in frames for _, counts in frame.truth)
    scores = [score for frame in frames for score in frame.scores()]
    precision, similarity = [0.0] * 41, [0.0] * 41
    for i, threshold in enumerate(thresholds_of(scores, total)):
        tallies = [frame.tally(threshold) for frame in frames]
        hits, false, alike = (sum(tally[k] for tally in tallies) for k in range(3))
        if hits + false:
            precision[i], similarity[i] = hits / (hits + false), alike / (hits + false)
    best = [max(precision[i:]) for i in range(41)]
    best_alike = [max(similarity[i:]) for i in range(41)]
    return 100 * sum(best[1:]) / 40, 100 * sum(best_alike[1:]) / 40
