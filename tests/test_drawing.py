"""Where points land in a picture, and in which colour, against places and colours worked out by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hvd.drawing import (
    DEPTH,
    HEIGHT,
    PANEL_WIDTH,
    BoxSet,
    CameraPanel,
    Lines,
    Scale,
    draw_camera,
    draw_frame,
    draw_from_above,
    stamp,
)
from hvd.geometry.boxes import corners

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def pixels(image: NDArray[Any], colour: Any) -> set[tuple[int, int]]:
    """(row, column) of the pixels of a colour."""
    return {(int(r), int(c)) for r, c in np.argwhere((image == np.asarray(colour)).all(-1))}


def centre(image: NDArray[Any], colour: Any) -> NDArray[np.float64]:
    """Mean row and column of the pixels of a colour."""
    return np.argwhere((image == np.asarray(colour)).all(-1)).mean(0)


def panel(uv: Any, depth: Any, size: tuple[int, int] = (PANEL_WIDTH, 300), image: Any = None) -> CameraPanel:
    black = np.zeros((size[1], size[0], 3), np.uint8)
    return CameraPanel("", black if image is None else image, size, np.array(uv, float), np.array(depth, float))


def test_stamp_sets_discs_and_the_highest_order_wins() -> None:
    canvas = np.zeros((5, 6, 3), np.uint8)
    colours = np.array([RED, GREEN, BLUE], np.uint8)
    uv = np.array([[1.2, 2.4], [2.0, 2.0], [5.0, 0.0]])
    out = stamp(canvas, uv, colours, order=np.array([2.0, 1.0, 3.0]), radius=1.0)
    assert pixels(out, RED) == {(2, 1), (1, 1), (3, 1), (2, 0), (2, 2)}
    assert pixels(out, GREEN) == {(2, 3), (1, 2), (3, 2)}
    assert pixels(out, BLUE) == {(0, 5), (1, 5), (0, 4)}  # cut off at the border
    assert not canvas.any()


def test_stamp_keeps_the_last_of_many_at_one_place() -> None:
    """What numpy says of repeated indices, and `stamp` relies on."""
    count = 5000
    colours = np.random.default_rng(0).integers(0, 255, (count, 3)).astype(np.uint8)
    order = np.random.default_rng(1).permutation(count).astype(float)
    out = stamp(np.zeros((1, 1, 3), np.uint8), np.zeros((count, 2)), colours, order, radius=0.0)
    assert out[0, 0].tolist() == colours[order.argmax()].tolist()


def test_stamp_of_nothing() -> None:
    empty = np.empty((0, 3), np.uint8)
    assert not stamp(np.zeros((4, 4, 3), np.uint8), np.empty((0, 2)), empty, np.empty(0), 1.6).any()


def test_scale_positions() -> None:
    logarithmic = Scale("", "viridis", (2.0, 32.0), (), logarithmic=True)
    np.testing.assert_allclose(logarithmic.position([1, 2, 4, 8, 32, 99]), [0, 0, 0.25, 0.5, 1, 1])
    np.testing.assert_allclose(HEIGHT.position([-3, 1, 5]), [0, 0.5, 1])


@pytest.mark.parametrize("scale", [DEPTH, HEIGHT])
def test_scale_brightness_is_monotonic(scale: Scale) -> None:
    """A perceptual map: read in grey it still orders the values."""
    grey = scale.colour(np.linspace(*scale.ends, 50)).astype(float) @ [0.2126, 0.7152, 0.0722]
    steps = np.diff(grey)
    assert (steps > -1).all() or (steps < 1).all()
    assert abs(grey[-1] - grey[0]) > 100


def test_points_land_where_the_resized_image_has_them() -> None:
    """Twice as large an original: pixel (u, v) goes to (u + 0.5) / 2 - 0.5."""
    out = draw_camera(panel([[200.5, 120.5]], [7.0], size=(2 * PANEL_WIDTH, 600)))
    assert out.shape == (300, PANEL_WIDTH, 3)
    assert centre(out, DEPTH.colour(7.0)).tolist() == [60, 100]


def test_points_lie_on_what_they_are_of() -> None:
    """A stored image at a quarter of the size: a dot in it and the point of the dot meet."""
    image = np.zeros((75, 160, 3), np.uint8)
    image[30, 100] = 255
    dot = ((100 + 0.5) * 8 - 0.5, (30 + 0.5) * 8 - 0.5)  # its centre in the original of 1280 x 600
    without = draw_camera(panel(np.empty((0, 2)), [], (1280, 600), image)).sum(-1)
    out = draw_camera(panel([dot], [7.0], (1280, 600), image))
    bright = np.argwhere(without == without.max()).mean(0)
    np.testing.assert_allclose(centre(out, DEPTH.colour(7.0)), bright, atol=0.6)


def test_the_nearest_point_is_on_top() -> None:
    out = draw_camera(panel([[50, 50], [50, 50], [50, 50]], [20.0, 4.0, 40.0]))
    assert out[50, 50].tolist() == DEPTH.colour(4.0).tolist()
    assert not pixels(out, DEPTH.colour(20.0)) | pixels(out, DEPTH.colour(40.0))


@pytest.mark.parametrize(("forward", "point"), [("x", (22.0, 11.0, 4.5)), ("y", (-11.0, 22.0, 4.5))])
def test_from_above_ahead_is_up_and_left_is_left(forward: Any, point: tuple[float, float, float]) -> None:
    """At 10 pixels a metre, 22 m ahead and 11 m to the left of the centre (549.5, 549.5)."""
    points = np.array([point, (np.nan, 0, 0), (0, np.inf, 0)])
    out = draw_from_above(points, 1100, forward)
    assert out.shape == (1100, 1100, 3)
    np.testing.assert_allclose(centre(out, HEIGHT.colour(4.5)), [549.5 - 220, 549.5 - 110], atol=0.51)


def test_from_above_the_highest_is_on_top() -> None:
    out = draw_from_above(np.array([(30.0, 5, 4), (30.0, 5, 0), (30.0, 5, -2)]), 1100, "x")
    assert pixels(out, HEIGHT.colour(4.0)) and not pixels(out, HEIGHT.colour(0.0))


def test_frame_has_every_camera_in_two_rows() -> None:
    colours = [(200, 8 * k, 0) for k in range(6)]
    panels = [panel([], [], (64, 30), np.full((30, 64, 3), colour, np.uint8)) for colour in colours]
    panels = [CameraPanel(f"C{k}", p.image, p.original_size, np.empty((0, 2)), p.depth) for k, p in enumerate(panels)]
    out = draw_frame("title", np.zeros((3, 4)), panels, "y")
    centres = [centre(out, (150, 6 * k, 0)) for k in range(6)]
    for k in range(5):
        earlier, later = centres[k], centres[k + 1]
        assert (later[1] > earlier[1] + PANEL_WIDTH / 2) if k != 2 else (later[0] > earlier[0] + 100)


BOX = np.array([[20.0, 5.0, -1.0, 4.0, 2.0, 1.5, 0.0]])  # 20 m ahead, 5 m to the left, heading ahead


def test_boxes_from_above_are_their_bottom_face_with_a_line_to_the_front() -> None:
    """At 10 pixels a metre: 18 to 22 m ahead, 4 to 6 m to the left of the centre (549.5, 549.5)."""
    group = BoxSet(corners(BOX), ("Car",), GREEN, "labelled")
    out = draw_from_above(np.zeros((0, 4)), 1100, "x", [group])
    rows, columns = np.nonzero((out == GREEN).all(-1))
    np.testing.assert_allclose([rows.min(), rows.max()], [549.5 - 220, 549.5 - 180], atol=1.5)
    np.testing.assert_allclose([columns.min(), columns.max()], [549.5 - 60, 549.5 - 40], atol=1.5)
    inner = np.flatnonzero((out[:, 497:503] == GREEN).all(-1).any(1))  # about the middle, 5 m to the left
    assert ((inner > 549.5 - 215) & (inner < 549.5 - 205)).any(), "the line to the front"
    assert not ((inner > 549.5 - 195) & (inner < 549.5 - 185)).any(), "and none to the rear"


def test_the_title_says_what_each_colour_is() -> None:
    red = (255, 60, 60)
    none = np.zeros((0, 8, 3))
    groups = [BoxSet(none, (), GREEN, "labelled"), BoxSet(none, (), red, "detected")]
    title = draw_frame("title", np.zeros((0, 4)), [], "x", groups)[:44]
    green_at, red_at = (np.nonzero((title == colour).all(-1))[1] for colour in (GREEN, red))
    assert 2 * PANEL_WIDTH - 200 < green_at.min() < green_at.max() < red_at.min() < red_at.max() < 2 * PANEL_WIDTH
    plain = draw_frame("title", np.zeros((0, 4)), [], "x")[:44]
    assert not (plain == GREEN).all(-1).any() and not (plain == red).all(-1).any()


def test_the_view_from_above_widens_to_hold_the_boxes() -> None:
    """A box that ends 72 m ahead touches the upper border, where 55 m ahead used to be."""
    far = BOX + np.array([50.0, 0, 0, 0, 0, 0, 0])
    out = draw_from_above(np.zeros((0, 4)), 1100, "x", [BoxSet(corners(far), ("Car",), GREEN, "labelled")])
    rows = np.flatnonzero((out == GREEN).all(-1).any(1))
    np.testing.assert_allclose([rows.min(), rows.max()], [0, 4 / 144 * 1100], atol=2)


def test_lines_lie_on_the_scaled_image() -> None:
    """Twice as large an original, lines far off the image left out."""
    ends = np.array([[[100.5, 60.5], [300.5, 60.5]], [[0.0, 0.0], [1e9, 1e9]]])
    base = panel(np.empty((0, 2)), [], (2 * PANEL_WIDTH, 600))
    out = draw_camera(replace(base, lines=(Lines(ends, GREEN, (("Car", 100.5, 300.0),)),)))
    rows, columns = np.nonzero((out[:80] == GREEN).all(-1))
    assert abs(rows.mean() - 30) < 1 and abs(columns.min() - 50) <= 1 and abs(columns.max() - 150) <= 1
    assert (out[120:160] == GREEN).all(-1).any(), "its name"
    assert not (draw_camera(base) == GREEN).all(-1).any()


def test_a_single_camera_is_large_and_over_the_view_from_above() -> None:
    image = np.full((30, 64, 3), (200, 8, 0), np.uint8)
    out = draw_frame("title", np.array([[10.0, 0, 4.5, 1]]), [panel(np.empty((0, 2)), [], (64, 30), image)], "x")
    assert out.shape[1] == 2 * PANEL_WIDTH
    rows, columns = np.nonzero((out == (150, 6, 0)).all(-1))
    assert (
        np.ptp(columns) > 2 * PANEL_WIDTH - 10 and rows.max() < np.nonzero((out == HEIGHT.colour(4.5)).all(-1))[0].min()
    )


def test_frame_without_cameras_is_the_view_from_above() -> None:
    out = draw_frame("title", np.array([[10.0, 0, 4.5, 1]]), [], "x")
    assert out.dtype == np.uint8 and out.shape[1] == 2 * PANEL_WIDTH
    assert pixels(out, HEIGHT.colour(4.5))
