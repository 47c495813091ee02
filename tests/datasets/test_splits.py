"""Which items are labelled: the rule in exact fractions, and what people may write."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvd.datasets.splits import LabelBudget, labelled
from hvd.errors import UsageError


def test_one_per_cent_is_every_hundredth() -> None:
    assert labelled(700, Fraction(1, 100)) == list(range(0, 700, 100))
    assert labelled(700, Fraction(1, 100), offset=3) == list(range(3, 700, 100))


def test_all_and_a_quarter() -> None:
    assert labelled(9, Fraction(1)) == list(range(9))
    assert labelled(9, Fraction(1, 4)) == [0, 4, 8]
    assert labelled(5, Fraction(2, 5)) == [0, 3]


@given(st.integers(1, 400), st.fractions(Fraction(1, 1000), 1), st.integers(0, 500))
def test_share_is_kept(count: int, share: Fraction, offset: int) -> None:
    """Within one of the exact share, evenly: any window of the items has its share, too."""
    chosen = labelled(count, share, offset)
    assert abs(len(chosen) - count * share) < 1
    half = [i for i in chosen if i < count // 2]
    assert abs(len(half) - count // 2 * share) < 1


@pytest.mark.parametrize(
    ("text", "share"),
    [("1%", Fraction(1, 100)), ("0.5%", Fraction(1, 200)), ("100%", Fraction(1)), ("2.25%", Fraction(9, 400))],
)
def test_parse_share(text: str, share: Fraction) -> None:
    assert LabelBudget.parse(text).share == share


@pytest.mark.parametrize(
    "text",
    [
        *("abc", "0%", "-1%", "200%", "", "%", "1", "0.0%", "nan%", "inf%", "1e1%", "100.1%", "٣%"),
        *("0-frames", "-3-frames", "1.5-frames", "frames", "12-scenes", "9" * 5000 + "-frames"),
    ],
)
def test_bad_budget_names_the_accepted_form(text: str) -> None:
    with pytest.raises(UsageError, match=r'0\.5% .* "12-frames"'):
        LabelBudget.parse(text)


SCENES = [scene for scene in "abcdefghij" for _ in range(3)]


def test_scenes_are_labelled_whole() -> None:
    assert LabelBudget.parse("10%").select(SCENES, 0, "scene") == [0, 1, 2]
    assert LabelBudget.parse("20%").select(SCENES, 1, "scene") == [3, 4, 5, 18, 19, 20]
    assert LabelBudget.parse("100%").select(SCENES, 0, "scene") == list(range(30))


def test_frames_are_labelled_each() -> None:
    assert LabelBudget.parse("10%").select(SCENES, 0, "frame") == [0, 10, 20]


@given(st.integers(1, 30), st.integers(0, 40))
def test_a_number_of_frames_is_met_exactly(frames: int, offset: int) -> None:
    chosen = LabelBudget.parse(f"{frames}-frames").select(SCENES, offset, "scene")
    assert len(chosen) == len(set(chosen)) == frames


def test_too_many_frames() -> None:
    with pytest.raises(UsageError, match="only 30 frames"):
        LabelBudget.parse("31-frames").select(SCENES, 0, "frame")


def test_nothing_chosen() -> None:
    with pytest.raises(UsageError, match="offset 50 chooses nothing"):
        LabelBudget.parse("1%").select(SCENES, 50, "frame")
