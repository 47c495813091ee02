"""The recorded KITTI frames' labels as their own detections, in files: alone, and 50 times under new ids."""

from tests.e2e.overfit_kitti import REPEATS, repeat_frames, truth_against_itself

# what of the six frames counts, at easy, moderate and hard
COUNTED = {"Car": (1, 3, 3), "Pedestrian": (2, 2, 2), "Cyclist": (0, 0, 0)}


def test_truth_scores_what_it_should(real_data, tmp_path):
    """n perfect detections score (n - 1) / 40 up to 41 of them, as the official program says."""
    for repeats in (1, REPEATS):
        root = repeat_frames(real_data("kitti"), tmp_path / str(repeats), repeats)
        table = truth_against_itself(root / "training" / "label_2", tmp_path / f"results-{repeats}")
        for name, counts in COUNTED.items():
            for level, count in zip(("easy", "moderate", "hard"), counts, strict=True):
                expected = 100 * min(max(repeats * count - 1, 0), 40) / 40
                for measure in ("2d", "aos", "bev", "3d"):
                    assert abs(table[f"{measure}/{name}/{level}"] - expected) < 1e-9, (repeats, measure, name, level)
