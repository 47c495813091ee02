"""KITTI's average precision: each rule by hand, its properties, and a second implementation on random scenes."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvd.datasets.kitti import open_kitti
from hvd.datasets.kitti_files import Objects, format_objects, read_labels, read_results
from hvd.geometry.boxes import lidar_from_rect_boxes, rect_from_lidar_boxes
from hvd.metrics.detection import DIFFICULTIES, MEASURES, MIN_OVERLAP, Evaluation, evaluate, recall_thresholds
from tests.metrics import plain_kitti

Row = tuple[object, ...]


def thing(
    name: str = "Car",
    *,
    at: float = 0.0,
    left: float | None = None,
    height: float = 50.0,
    width: float = 100.0,
    truncation: float = 0.0,
    occlusion: int = 0,
    alpha: float = 0.0,
    score: float | None = None,
    size: tuple[float, float, float] = (1.5, 2.0, 4.0),
    y: float = 1.5,
    ry: float = 0.0,
) -> Row:
    """One object: `at` is its place on the camera's x axis in metres and, times 20, in pixels from column 600."""
    start = 600 + 20 * at if left is None else left
    box = (start, 100.0, start + width, 100.0 + height)
    return (name, truncation, occlusion, alpha, *box, *size, at, y, 20.0, ry, score)


def dont_care(left: float, width: float = 100.0) -> Row:
    box = (left, 100.0, left + width, 150.0)
    return ("DontCare", -1.0, -1, -10.0, *box, -1.0, -1.0, -1.0, -1000.0, -1000.0, -1000.0, -10.0, None)


def objects(*rows: Row) -> Objects:
    table = np.array([[float(v) for v in row[3:15]] for row in rows]).reshape(len(rows), 12)  # type: ignore[arg-type]
    scored = all(row[15] is not None for row in rows)
    return Objects(
        types=tuple(str(row[0]) for row in rows),
        truncation=np.array([row[1] for row in rows], np.float64),
        occlusion=np.array([row[2] for row in rows], np.int64),
        alpha=table[:, 0],
        box2d=table[:, 1:5],
        box3d=table[:, 5:],
        score=np.array([row[15] for row in rows], np.float64) if scored else None,
    )


def one(truth: list[Row], found: list[Row], copies: int = 1) -> Evaluation:
    return evaluate([objects(*truth)] * copies, [objects(*found)] * copies)


def first(result: Evaluation, name: str = "Car", difficulty: str = "moderate", measure: str = "2d") -> float:
    """Precision at the first recall point: easier to count by hand than AP."""
    return float(result.curves[measure, name, difficulty][0])  # type: ignore[index]


SPACED = [thing(at=6.0 * i, score=0.9 - 0.1 * i) for i in range(5)]
SOLID = ("2d", "bev", "3d")


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 2.5), (3, 5.0), (40, 97.5), (41, 100.0), (100, 100.0)])
def test_perfect_detections(count: int, expected: float) -> None:
    result = one([SPACED[0]], [SPACED[0]], copies=count)
    for measure in MEASURES:
        assert result.ap(measure, "Car", "easy") == pytest.approx(expected, abs=1e-9)


def test_precision_by_hand() -> None:
    """Four cars; sure hit, false alarm, hit: precision 1, then 2/3; nothing at higher recall."""
    truth = [thing(at=0.0), thing(at=6.0), thing(at=12.0), thing(at=18.0)]
    found = [thing(at=0.0, score=0.9), thing(at=-20.0, score=0.8), thing(at=6.0, score=0.7)]
    result = one(truth, found)
    for measure in SOLID:
        curve = result.curves[measure, "Car", "easy"]  # type: ignore[index]
        np.testing.assert_allclose(curve, [1, 2 / 3] + 39 * [0])
    assert result.ap("2d", "Car", "easy") == pytest.approx(100 * 2 / 3 / 40)


def test_precision_never_rises_with_recall() -> None:
    """False alarm first: 1/2, then 2/3, of which the larger holds from the start."""
    truth = [thing(at=0.0), thing(at=6.0)]
    found = [thing(at=-20.0, score=0.95), thing(at=0.0, score=0.9), thing(at=6.0, score=0.7)]
    np.testing.assert_allclose(one(truth, found).curves["2d", "Car", "easy"], [2 / 3, 2 / 3] + 39 * [0])


def test_recall_thresholds() -> None:
    assert recall_thresholds([], 10) == []
    assert recall_thresholds([0.5, 0.9], 10) == [0.9, 0.5]
    every = [1 - i / 80 for i in range(80)]
    assert recall_thresholds(every, 80) == [every[0], *every[1::2]], "recall 1/80 is nearest to 0, 2/80 to 1/40"
    assert len(recall_thresholds(every, 1000)) == 5, "recall 0, 1/40, 2/40, 3/40 and the last one, 0.08"


@pytest.mark.parametrize(
    ("change", "visible"),
    [
        ({"height": 40.01}, DIFFICULTIES),
        ({"height": 40.0}, ("moderate", "hard")),
        ({"height": 25.0}, ()),
        ({"occlusion": 1}, ("moderate", "hard")),
        ({"occlusion": 2}, ("hard",)),
        ({"occlusion": 3}, ()),
        ({"truncation": 0.15}, DIFFICULTIES),
        ({"truncation": 0.16}, ("moderate", "hard")),
        ({"truncation": 0.31}, ("hard",)),
        ({"truncation": 0.51}, ()),
    ],
)
def test_difficulty(change: dict[str, float], visible: tuple[str, ...]) -> None:
    """Beside a plain car: a missed car that counts lowers recall; one that doesn't may be detected at no cost."""
    car = thing(at=0.0, **change)  # type: ignore[arg-type]
    plain, far = thing(at=6.0, score=0.5), thing(at=12.0, score=0.4)
    detected = one([car, plain, far], [(*car[:15], 0.9), plain, far])
    for difficulty in DIFFICULTIES:
        for measure in SOLID:
            curve = detected.curves[measure, "Car", difficulty]  # type: ignore[index]
            assert curve.tolist() == [1.0] * (2 + (difficulty in visible)) + [0.0] * (39 - (difficulty in visible))


def test_unseen_car_takes_its_detection() -> None:
    """An occluded car is no false alarm where it is detected, and a second detection of it is one."""
    hidden = thing(at=0.0, occlusion=3)
    found = [(*hidden[:15], 0.9), (*thing(at=0.1)[:15], 0.8), thing(at=6.0, score=0.1)]
    assert first(one([hidden, thing(at=6.0)], [found[0], found[2]])) == 1.0
    assert first(one([hidden, thing(at=6.0)], found)) == 0.5


@pytest.mark.parametrize(("name", "kin"), [("Car", "Van"), ("Pedestrian", "Person_sitting")])
def test_neighbouring_classes(name: str, kin: str) -> None:
    plain = thing(name, at=6.0, score=0.1)
    for other, expected in ((kin, 1.0), ("Truck", 0.5), ("Misc", 0.5), ("Cyclist", 0.5)):
        result = one([thing(other), plain], [thing(name, score=0.9), plain])
        for measure in SOLID:
            assert first(result, name, measure=measure) == expected, (other, measure)
    assert first(one([thing(kin), plain], [thing(kin, score=0.9), plain]), name) == 1.0, "a kin's detection is nothing"


def test_kin_is_not_asked_for() -> None:
    """A missed van costs no recall."""
    result = one([thing("Van"), thing(at=6.0)] * 1, [thing(at=6.0, score=0.1)], copies=41)
    assert result.ap("3d", "Car", "easy") == pytest.approx(100)


def test_low_detections_are_ignored() -> None:
    plain = thing(at=6.0, score=0.1)
    for height, moderate, easy in ((24.9, 1.0, 1.0), (30.0, 0.5, 1.0), (40.0, 0.5, 0.5)):
        result = one([plain], [thing(height=height, score=0.9), plain])
        assert first(result) == moderate
        assert first(result, difficulty="easy") == easy


def test_low_detection_of_any_class_can_take_an_object() -> None:
    """On the ground a low detection, even of another class, takes the car when nothing else does, at no cost."""
    low = thing("Cyclist", height=20.0, score=0.9)
    plain = thing(at=6.0, score=0.8)
    result = one([thing(), thing(at=6.0)], [low, plain])
    np.testing.assert_allclose(result.curves["bev", "Car", "easy"], [1] + 40 * [0])
    result = one([thing(), thing(at=6.0)], [low, thing(score=0.5), plain])
    expected = [1] + 40 * [0]  # the first pass gives the car to the low one, which has the better score
    np.testing.assert_allclose(result.curves["bev", "Car", "easy"], expected)
    result = one([thing(), thing(at=6.0)], [(*low[:15], 0.4), thing(score=0.5), plain])
    np.testing.assert_allclose(result.curves["bev", "Car", "easy"], [1, 1] + 39 * [0])


def test_dont_care_hides_in_the_image_alone() -> None:
    """The share is of the detection: 71 % inside is enough for a car, 70 % isn't."""
    plain = thing(at=-20.0, score=0.1)
    for offset, expected in ((29.0, 1.0), (30.0, 0.5)):
        truth = [plain, dont_care(left=600.0 + offset, width=1000.0)]
        result = one(truth, [thing(score=0.9), plain])
        assert first(result) == expected
        assert first(result, measure="bev") == first(result, measure="3d") == 0.5
    halves = [dont_care(600.0, 50.0), dont_care(650.0, 50.0)]
    assert first(one([plain, *halves], [thing(score=0.9), plain])) == 0.5, "areas don't add up"
    twice = [dont_care(600.0), dont_care(599.0, 102.0)]
    assert first(one([plain, *twice], [thing(score=0.9), plain, thing(at=8.0, score=0.8)])) == 0.5, "hidden once"


def test_dont_care_does_not_hide_hits() -> None:
    result = one([thing(), dont_care(500.0, 500.0)], [thing(score=0.9)])
    assert first(result) == 1.0


def test_score_chooses_first_and_overlap_then() -> None:
    """The threshold is the sure detection's score; there the other, though it overlaps more, does not exist yet."""
    sure, exact = thing(at=0.4, score=0.9), thing(at=0.0, score=0.5)
    alone = thing(at=6.0, score=0.3)
    np.testing.assert_allclose(
        one([thing(), thing(at=6.0)], [sure, exact, alone]).curves["bev", "Car", "easy"], [1, 2 / 3] + 39 * [0]
    )


def test_orientation() -> None:
    """A hit turned by 60 degrees is worth (1 + 1/2) / 2, a false alarm 0; one unknown angle and there is no figure."""
    truth = [thing(at=0.0), thing(at=6.0)]
    found = [thing(at=0.0, alpha=np.pi / 3, score=0.9), thing(at=6.0, score=0.8), thing(at=-20.0, score=0.85)]
    result = one(truth, found)
    np.testing.assert_allclose(result.curves["aos", "Car", "easy"], [0.75, 1.75 / 3] + 39 * [0])
    unknown = one(truth, [*found, thing("Pedestrian", alpha=-10.0, score=0.1)])
    assert {key[0] for key in unknown.curves} == {"2d", "bev", "3d"}


def ious(shift: float) -> dict[str, float]:
    """Of two cars, one shifted along its length and as much (times 20 px) in the image."""
    return {
        "2d": (100 - 20 * shift) / (100 + 20 * shift),
        "bev": (4 - shift) / (4 + shift),
        "3d": (4 - shift) / (4 + shift),
    }


@pytest.mark.parametrize("measure", SOLID)
def test_shifted_box_drops_at_the_threshold(measure: str) -> None:
    """Overlap (a - s) / (a + s) falls below 0.7 at s = 0.3 a / 1.7."""
    limit = 0.3 / 1.7 * (5.0 if measure == "2d" else 4.0)
    for shift, expected in ((limit - 1e-6, 1.0), (limit + 1e-6, 0.0)):
        assert (ious(shift)[measure] > 0.7) == bool(expected)
        assert first(one([thing()], [thing(at=shift, score=0.5)]), measure=measure) == expected


def test_raised_box_drops_in_3d_alone() -> None:
    limit = 0.3 / 1.7 * 1.5
    for raised, expected in ((limit - 1e-6, 1.0), (limit + 1e-6, 0.0)):
        result = one([thing()], [thing(y=1.5 - raised, score=0.5)])
        assert first(result, measure="3d") == expected
        assert first(result, measure="bev") == 1.0


def test_never_detected_class() -> None:
    result = one([thing("Cyclist")], [thing(score=0.5)])
    assert result.ap("3d", "Cyclist", "easy") == 0.0
    nothing = evaluate([objects()], [replace(objects(), score=np.empty(0))])
    assert set(nothing.table().values()) == {0.0}
    assert evaluate([], []).ap("2d", "Car", "easy") == 0.0


def test_detected_only_outside_of_a_measure() -> None:
    """Detections without a place on the ground score in the image alone, and those left of it not in the image."""
    flat = thing(score=0.5)
    flat = (*flat[:8], -1.0, -1.0, -1.0, -1000.0, -1000.0, -1000.0, -10.0, 0.5)
    result = one([thing()], [flat], copies=41)
    assert [result.ap(m, "Car", "easy") for m in SOLID] == pytest.approx([100, 0, 0])  # type: ignore[arg-type]
    left = thing(left=-1.0, width=100.0)
    result = one([left], [(*left[:15], 0.5)], copies=41)
    assert [result.ap(m, "Car", "easy") for m in SOLID] == pytest.approx([0, 100, 100])  # type: ignore[arg-type]


def test_nothing_counted_at_a_threshold_is_no_precision() -> None:
    """The van takes the low detection first and the car's other one then; what is left is too low to be false."""
    truth = [thing("Van"), thing(at=0.5)]
    found = [thing(at=-0.4, score=0.9, height=20.0), thing(at=0.2, score=0.5)]
    result = one(truth, found)
    assert result.curves["bev", "Car", "easy"].tolist() == [0.0] * 41


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="1 frames of truth, 0"):
        evaluate([objects()], [])
    with pytest.raises(ValueError, match="scores"):
        evaluate([objects(thing())], [objects(thing())])


# A second implementation, on random scenes


def random_scene(rng: np.random.Generator, ties: bool) -> tuple[str, str]:
    """Text of a label file and of a result file: crowded, so that objects compete for detections."""
    truth, found = [], []
    names = ["Car", "Pedestrian", "Cyclist", *("Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "Misc")]
    for _ in range(rng.integers(0, 10)):
        name = str(rng.choice(names))
        row = random_thing(rng)
        truncation = rng.choice([*[0.0] * 12, 0.15, 0.16, 0.3, 0.5, 0.7])
        truth.append(label_line(name, f"{truncation:.2f} {rng.choice([*[0] * 12, 1, 2, 3])}", row))
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            other = row + rng.normal(0, 1, 12) * rng.choice([0, 0.01, 0.06]) * SPREAD
            kin = {"Van": "Car", "Person_sitting": "Pedestrian"}.get(name, name)
            found_name = kin if rng.random() < 0.9 else str(rng.choice(names))
            found.append(label_line(found_name, "-1 -1", other) + score_text(rng, ties))
    for _ in range(rng.integers(0, 2)):
        found.append(label_line(str(rng.choice(names)), "-1 -1", random_thing(rng)) + score_text(rng, ties))
    for _ in range(rng.integers(0, 3)):
        box = random_thing(rng)[1:5] + np.array([-30.0, -10.0, 60.0, 20.0])
        truth.append("DontCare -1 -1 -10 " + " ".join(f"{v:.2f}" for v in box) + " -1 -1 -1 -1000 -1000 -1000 -10")
    rng.shuffle(found)
    return "\n".join(truth), "\n".join(found)


SPREAD = np.array([1, 20, 10, 20, 10, 1.0, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0])


def random_thing(rng: np.random.Generator) -> np.ndarray:
    """alpha, box, h w l, x y z, ry: few places, so that things overlap."""
    left, top = 300 + 60 * rng.integers(0, 12), 150 + 10 * rng.integers(0, 3)
    box = [left, top, left + rng.uniform(40, 120), top + rng.choice([20, 24.99, 25, 39.5, 40, *[60] * 8])]
    place = [3.0 * rng.integers(0, 6), rng.uniform(1, 2), 10 + 5.0 * rng.integers(0, 2)]
    return np.array([rng.uniform(-3, 3), *box, 1.5, 1.8, 4.0, *place, rng.uniform(-3, 3)])


def label_line(name: str, visibility: str, row: np.ndarray) -> str:
    row = row.copy()
    row[3:5] = np.maximum(row[3:5], row[1:3] + 1)
    return f"{name} {visibility} " + " ".join(f"{value:.2f}" for value in row)


def score_text(rng: np.random.Generator, ties: bool) -> str:
    return f" {rng.choice([0.25, 0.5, 0.75])}" if ties else f" {rng.random():.6f}"


def compare(scenes: list[tuple[str, str]], folder: Path) -> list[float]:
    """Both implementations on the same text; returns the figures."""
    truth, found = [], []
    for number, (labels, results) in enumerate(scenes):
        (folder / f"{number}-labels.txt").write_text(labels)
        (folder / f"{number}-results.txt").write_text(results)
        truth.append(read_labels(folder / f"{number}-labels.txt"))
        found.append(read_results(folder / f"{number}-results.txt"))
    result = evaluate(truth, found)
    plain_truth = [plain_kitti.parse(labels) for labels, _ in scenes]
    plain_found = [plain_kitti.parse(results) for _, results in scenes]
    figures = []
    for name in MIN_OVERLAP:
        for difficulty in DIFFICULTIES:
            for measure in SOLID:
                ap, aos = plain_kitti.average_precision(measure, name, difficulty, plain_truth, plain_found)
                assert result.ap(measure, name, difficulty) == pytest.approx(ap, abs=1e-6)  # type: ignore[arg-type]
                figures.append(ap)
                if measure == "2d":
                    assert result.ap("aos", name, difficulty) == pytest.approx(aos, abs=1e-6)
    return figures


@pytest.mark.parametrize("ties", [False, True])
def test_second_implementation(ties: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(int(ties))
    figures = compare([random_scene(rng, ties) for _ in range(30)], tmp_path)
    assert min(figures) > 1, "every figure has something to say"
    assert max(figures) < 99


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 4), ties=st.booleans())
def test_second_implementation_on_few_frames(
    seed: int, frames: int, ties: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    compare([random_scene(rng, ties) for _ in range(frames)], tmp_path_factory.mktemp("kitti"))


def test_a_place_without_a_size_is_detected_in_the_image_alone() -> None:
    """Multiplied, two unknown sizes of -1 would look like a square metre."""
    true = thing(size=(1.0, 1.0, 1.0))
    found = thing(size=(-1.0, -1.0, -1.0), score=0.9)
    curves = one([true, true], [found, found]).curves
    assert curves["2d", "Car", "easy"][0] == 1
    assert curves["bev", "Car", "easy"].max() == curves["3d", "Car", "easy"].max() == 0


def test_order_does_not_matter(tmp_path: Path) -> None:
    """Of detections in a file and of frames, where no two scores are equal."""
    rng = np.random.default_rng(5)
    frames = []
    for number in range(20):
        for path, text in zip(("t", "f"), random_scene(rng, ties=False), strict=True):
            (tmp_path / f"{path}{number}").write_text(text)
        frames.append((read_labels(tmp_path / f"t{number}"), read_results(tmp_path / f"f{number}")))
    before = evaluate([t for t, _ in frames], [f for _, f in frames]).table()
    rng.shuffle(frames)
    mixed = [(truth, found.take(rng.permutation(len(found)))) for truth, found in frames]
    after = evaluate([t for t, _ in mixed], [f for _, f in mixed]).table()
    assert before == pytest.approx(after, abs=1e-9)
    assert sum(before.values()) > 0


# The recorded frames


def test_recorded_frames_against_themselves(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Through boxes in the LiDAR frame and result files; 3 moderate cars alone give (3 - 1) / 40, 150 of them 100."""
    data = open_kitti(real_data("kitti"))
    truth, found = [], []
    for sample in data.samples:
        labels, calibration = data.read_objects(sample), data.read_calibration(sample)
        truth.append(labels)
        rows = [row for row, name in enumerate(labels.types) if name != "DontCare"]
        path = tmp_path / f"{sample.token}.txt"
        boxes = lidar_from_rect_boxes(labels.take(rows).box3d, calibration.rect_from_lidar)
        again = replace(
            labels.take(rows),
            box3d=rect_from_lidar_boxes(boxes, calibration.rect_from_lidar),
            score=np.ones(len(rows)),
        )
        path.write_text("\n".join(format_objects(again)))
        found.append(read_results(path))
    alone, repeated = evaluate(truth, found), evaluate(truth * 50, found * 50)
    for measure in MEASURES:
        assert alone.ap(measure, "Car", "moderate") == pytest.approx(5.0)
        assert repeated.ap(measure, "Car", "moderate") == pytest.approx(100.0)


def test_three_hundred_frames_take_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    (tmp_path / "t").write_text("")
    frames = []
    for _ in range(30):
        labels, results = random_scene(rng, ties=False)
        (tmp_path / "t").write_text(labels)
        (tmp_path / "f").write_text(results)
        frames.append((read_labels(tmp_path / "t"), read_results(tmp_path / "f")))
    start = time.process_time()
    evaluate([t for t, _ in frames] * 10, [f for _, f in frames] * 10)
    assert time.process_time() - start < 10
