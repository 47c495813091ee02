"""Pictures of a frame: its points over its camera images, coloured by depth, and from above, coloured by height.

Boxes of objects, labelled or detected, are drawn on both. Pure functions from arrays to RGB arrays (H, W, 3) uint8;
lengths in metres. M: points of an image, P: of the frame, N: boxes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvd.geometry.camera import resize, warp

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Rgb = NDArray[np.uint8]
Forward = Literal["x", "y"]

PANEL_WIDTH = 640  # pixels of one camera image in the picture
_BACKGROUND = (18, 18, 22)
_INK = (235, 235, 235)
_FAINT = (72, 72, 80)
_TEXT_PX = 18
_SMALL_TEXT_PX = 13
_STRIP_PX = 44  # height of the title and of a legend
_KIND_PX = 100  # width of what a set of boxes is called
_GAP_PX = 6
_VIEW_M = (55.0, 100.0)  # half the width of the view from above: at least, and at most where boxes lie farther out
_RING_M = 10


@dataclass(frozen=True)
class BoxSet:
    """Boxes of one colour."""

    corners_lidar: NDArray[Any]  # (N, 8, 3) in the order of `hvd.geometry.boxes.corners`
    names: tuple[str, ...]  # (N,) written beside them
    colour: tuple[int, int, int]
    what: str  # they are, as the title says in their colour


@dataclass(frozen=True)
class Lines:
    """Lines of one colour on an image, in pixels of the original one."""

    ends: NDArray[Any]  # (E, 2, 2)
    colour: tuple[int, int, int]
    names: tuple[tuple[str, float, float], ...] = ()  # text and where its lower left corner is


@dataclass(frozen=True)
class CameraPanel:
    """One camera: its image at any size, and where points fall on the original one."""

    name: str
    image: Rgb  # (H, W, 3)
    original_size: tuple[int, int]  # width, height in pixels
    uv: NDArray[Any]  # (M, 2) pixels of the original image
    depth: NDArray[Any]  # (M,) metres
    lines: tuple[Lines, ...] = ()


@dataclass(frozen=True)
class Scale:
    """How values become colours, and which of them the legend names."""

    label: str
    colours: str  # one of matplotlib's perceptually uniform maps
    ends: tuple[float, float]
    ticks: tuple[int, ...]
    logarithmic: bool = False

    def position(self, values: Any) -> NDArray[np.float64]:
        """Where values lie between the ends: 0..1."""
        shown = np.clip(np.asarray(values, np.float64), *self.ends)
        low, high = self.ends
        if self.logarithmic:
            shown, low, high = np.log(shown), np.log(low), np.log(high)
        position: NDArray[np.float64] = (shown - low) / (high - low)
        return position

    def colour(self, values: Any) -> Rgb:
        """Values (...) -> colours (..., 3)."""
        import matplotlib

        rgba = matplotlib.colormaps[self.colours](self.position(values), bytes=True)
        return np.asarray(rgba, np.uint8)[..., :3]


# Logarithmic: an error of a metre is seen near the car, where it matters.
DEPTH = Scale("depth, m", "plasma_r", (2.0, 60.0), (2, 3, 5, 10, 20, 40, 60), logarithmic=True)
HEIGHT = Scale("height over the LiDAR, m", "viridis", (-3.0, 5.0), (-3, -1, 1, 3, 5))


def draw_frame(
    title: str,
    points: NDArray[Any],
    panels: Sequence[CameraPanel],
    forward: Forward,
    boxes: Sequence[BoxSet] = (),
) -> Rgb:
    """The whole picture: the cameras in two rows, if there are any, and the view from above beside them.

    A single camera's image is drawn twice as large, over the view from above.

    Args:
        title: one line on top.
        points: (P, 3 or more) x, y, z in metres, LiDAR frame.
        panels: in the order in which they are shown, row by row.
        forward: the LiDAR axis that points ahead; z points up.
        boxes: for the view from above; the panels bring their own lines.
    """
    cameras = _draw_cameras(panels) if panels else None
    side = 2 * PANEL_WIDTH if cameras is None or len(panels) == 1 else len(cameras) - _STRIP_PX - _GAP_PX
    above = _join([draw_from_above(points, side, forward, boxes), _legend(HEIGHT, side)], axis=0)
    body = above if cameras is None else _join([cameras, above], axis=0 if len(panels) == 1 else 1)
    return _join([_header(title, boxes, body.shape[1]), body], axis=0)


def _header(title: str, boxes: Sequence[BoxSet], width: int) -> Rgb:
    """The title, and to the right what the boxes are, each in its colour."""

    def write(draw: "ImageDraw") -> None:
        _text(draw, (8, 12), title)
        for place, group in enumerate(boxes):
            right = width - 8 - (len(boxes) - 1 - place) * _KIND_PX
            _text(draw, (right, 12), group.what, anchor="ra", colour=group.colour)

    return _on(_blank(_STRIP_PX, width), write)


def _draw_cameras(panels: Sequence[CameraPanel]) -> Rgb:
    width = 2 * PANEL_WIDTH if len(panels) == 1 else PANEL_WIDTH
    images = [draw_camera(panel, width) for panel in panels]
    columns = -(-len(images) // 2)
    rows = [_join(images[start : start + columns], axis=1) for start in range(0, len(images), columns)]
    return _join([*rows, _legend(DEPTH, rows[0].shape[1])], axis=0)


def draw_camera(panel: CameraPanel, panel_width: int = PANEL_WIDTH) -> Rgb:
    """One image, scaled and darkened, under its points, the nearest over those behind, and its lines."""
    from PIL import Image

    width, height = panel.original_size
    size = panel_width, round(panel_width * height / width)
    photo = np.asarray(Image.fromarray(panel.image).resize(size, Image.Resampling.BICUBIC))
    scaled = resize(size[0] / width, size[1] / height)
    uv = warp(scaled, panel.uv.astype(np.float64))
    dotted = stamp((0.75 * photo).astype(np.uint8), uv, DEPTH.colour(panel.depth), order=-panel.depth, radius=1.6)

    def write(draw: "ImageDraw") -> None:
        for lines in panel.lines:
            _draw_lines(draw, warp(scaled, lines.ends), lines.colour)
            for text, u, v in lines.names:
                x, y = warp(scaled, np.array([u, v]))
                _text(draw, (x, y), text, anchor="lb", colour=lines.colour, size=_SMALL_TEXT_PX)
        _text(draw, (8, 6), panel.name)

    return _on(dotted, write)


def _draw_lines(draw: "ImageDraw", ends: NDArray[Any], colour: tuple[int, int, int]) -> None:
    """Lines (E, 2, 2) in pixels of the canvas; those far outside of it are left out."""
    reach = 4.0 * max(draw.im.size)
    for one, two in ends[(np.abs(ends) < reach).all(axis=(1, 2))].tolist():
        draw.line([*one, *two], fill=colour, width=2)


def draw_from_above(points: NDArray[Any], side: int, forward: Forward, boxes: Sequence[BoxSet] = ()) -> Rgb:
    """The frame from above, (side, side, 3): ahead is up, a ring every 10 m, the highest points on top, then boxes.

    A box is its bottom face and a line from the middle to the front.
    """
    finite = points[np.isfinite(points[:, :3]).all(1)].astype(np.float64)
    farthest = max([0.0, *(np.abs(group.corners_lidar[..., :2]).max(initial=0.0) for group in boxes)])
    reach = float(np.clip(farthest, *_VIEW_M))
    rings = range(_RING_M, int(reach), _RING_M)
    scale = side / (2 * reach)
    centre = (side - 1) / 2
    uv = _from_above(finite, forward, centre, scale)
    seen = (np.abs(uv - centre) <= centre).all(1)
    canvas = _on(_blank(side, side), lambda draw: _rings(draw, rings, centre, scale))
    height = finite[seen, 2]
    dotted = stamp(canvas, uv[seen], HEIGHT.colour(height), order=height, radius=1.0)

    def write(draw: "ImageDraw") -> None:
        for group in boxes:
            bottom = group.corners_lidar[:, :4]
            front, middle = bottom[:, [0, 3]].mean(axis=1), bottom.mean(axis=1)
            sides = np.stack([bottom, np.roll(bottom, -1, axis=1)], axis=2).reshape(-1, 2, 3)
            lines = np.concatenate([sides, np.stack([middle, front], axis=1)])
            _draw_lines(draw, _from_above(lines, forward, centre, scale), group.colour)
        _ring_names(draw, rings, centre, scale)

    return _on(dotted, write)


def _from_above(points: NDArray[Any], forward: Forward, centre: float, scale: float) -> NDArray[np.float64]:
    """Pixels (..., 2) of points (..., 3 or more) in the view from above."""
    x, y = points[..., 0], points[..., 1]
    ahead, left = (x, y) if forward == "x" else (y, -x)
    return np.stack([centre - left * scale, centre - ahead * scale], axis=-1)


def stamp(canvas: Rgb, uv: NDArray[Any], colour: Rgb, order: NDArray[Any], radius: float) -> Rgb:
    """`canvas` (H, W, 3) with discs of `radius` pixels on it; where they meet, the highest `order` wins.

    Args:
        canvas: stays as it is.
        uv: (M, 2) finite pixels, the centre of the top-left one being (0, 0).
        colour: (M, 3).
        order: (M,).
        radius: below 1: single pixels.
    """
    reach = np.arange(-int(radius), int(radius) + 1)
    down, right = np.meshgrid(reach, reach, indexing="ij")
    disc = down**2 + right**2 <= radius**2
    last_wins = np.argsort(order, kind="stable")
    column, row = np.rint(uv[last_wins]).astype(np.int64).T
    rows, columns = (row[:, None] + down[disc]).ravel(), (column[:, None] + right[disc]).ravel()
    colours = np.repeat(colour[last_wins], disc.sum(), axis=0)
    shown = (rows >= 0) & (rows < canvas.shape[0]) & (columns >= 0) & (columns < canvas.shape[1])
    out = canvas.copy()
    out[rows[shown], columns[shown]] = colours[shown]  # of a place that comes twice, the last colour stays
    return out


def _legend(scale: Scale, width: int) -> Rgb:
    """A colour bar with its ticks."""
    left, right, top, bottom = width // 3, width - 40, 6, 20
    low, high = scale.ends
    share = np.linspace(0, 1, right - left)
    values = low * (high / low) ** share if scale.logarithmic else low + (high - low) * share
    strip = _blank(_STRIP_PX, width)
    strip[top:bottom, left:right] = scale.colour(values)

    def write(draw: "ImageDraw") -> None:
        _text(draw, (8, 8), scale.label)
        for tick in scale.ticks:
            x = left + float(scale.position(tick)) * (right - left - 1)
            draw.line([(x, bottom), (x, bottom + 4)], fill=_INK)
            _text(draw, (x, bottom + 4), str(tick), anchor="ma")

    return _on(strip, write)


def _rings(draw: "ImageDraw", radii: Sequence[int], centre: float, scale: float) -> None:
    for radius in radii:
        reach = radius * scale
        draw.ellipse([centre - reach, centre - reach, centre + reach, centre + reach], outline=_FAINT)
    draw.polygon([(centre, centre - 9), (centre - 5, centre + 7), (centre + 5, centre + 7)], fill=_INK)


def _ring_names(draw: "ImageDraw", radii: Sequence[int], centre: float, scale: float) -> None:
    for radius in radii:
        _text(draw, (centre, centre - radius * scale), f"{radius} m", anchor="mm")


def _text(
    draw: "ImageDraw",
    xy: tuple[float, float],
    text: str,
    anchor: str = "la",
    colour: tuple[int, int, int] = _INK,
    size: int = _TEXT_PX,
) -> None:
    from PIL import ImageFont

    draw.text(xy, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor, stroke_width=2, stroke_fill=0)


def _on(canvas: Rgb, paint: Callable[["ImageDraw"], None]) -> Rgb:
    """A copy of `canvas` that `paint` has drawn on."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(canvas)
    paint(ImageDraw.Draw(image))
    return np.array(image)


def _blank(height: int, width: int) -> Rgb:
    return np.full((height, width, 3), _BACKGROUND, np.uint8)


def _join(images: Sequence[Rgb], axis: int) -> Rgb:
    """Images below (axis 0) or beside (axis 1) each other, with a gap; shorter ones are filled up."""
    across = 1 - axis
    extent = max(image.shape[across] for image in images)
    parts: list[Rgb] = []
    for image in images:
        missing, gap = extent - image.shape[across], _GAP_PX if parts else 0
        padding = [(gap, 0), (0, missing)] if axis == 0 else [(0, missing), (gap, 0)]
        filled = np.stack([np.pad(image[..., c], padding, constant_values=_BACKGROUND[c]) for c in range(3)], axis=-1)
        parts.append(filled)
    return np.concatenate(parts, axis=axis)
