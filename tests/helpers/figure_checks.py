"""Measure the texts of a figure as they are drawn: size, place, overlap, contrast with what is below."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.axis import Tick
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from neva_tl.plots.palette import contrast

#: Pixels per inch of the measurement, and the share of a text's box that an other may touch (boxes have air around letters).
DPI, AIR = 100, 0.12


@dataclass(frozen=True)
class Drawn:
    """A text, its corners in pixels and the colour below it."""

    text: Text
    corners: np.ndarray
    ground: tuple[float, float, float]
    tick: bool
    points: float

    @property
    def words(self) -> str:
        return self.text.get_text()

    @property
    def contrast(self) -> float:
        red, green, blue, alpha = to_rgba(self.text.get_color(), self.text.get_alpha())
        mixed = [alpha * a + (1 - alpha) * b for a, b in zip((red, green, blue), self.ground, strict=True)]
        return contrast(mixed, self.ground)

    def over(self, other: Drawn) -> bool:
        return _meet(self.corners, other.corners)


@dataclass(frozen=True)
class Picture:
    """All texts of a figure that was drawn without them, and the canvas's size in pixels."""

    texts: tuple[Drawn, ...]
    size: tuple[int, int]

    def cut(self) -> list[str]:
        """Texts that reach over the canvas, or over the axes that clip them."""
        wide, high = self.size
        return [one.words for one in self.texts if not _inside(one.corners, 0, 0, wide, high) or _clipped(one)]

    def small(self, floor: float = 6.0) -> list[tuple[str, float]]:
        return [(one.words, one.points) for one in self.texts if one.points < floor - 1e-6]

    def pale(self, least: float = 4.5) -> list[tuple[str, float, str]]:
        return [
            (one.words, round(one.contrast, 2), str(one.text.get_color()))
            for one in self.texts
            if one.contrast < least - 0.005
        ]

    def overlaps(self, *, ticks: bool = True) -> list[tuple[str, str]]:
        """Pairs of texts that lie over each other; only tick labels where `ticks`."""
        texts = [one for one in self.texts if one.tick or not ticks]
        return [(a.words, b.words) for i, a in enumerate(texts) for b in texts[i + 1 :] if a.over(b)]


def picture(figure: Figure) -> Picture:
    """Draw a figure without its texts and record those."""
    figure.set_dpi(DPI)
    texts: list[tuple[Text, np.ndarray]] = []

    def record(text: Text, renderer: Any, *_args: Any, **_kwargs: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            texts.append((text, _corners(text, renderer)))

    with mock.patch.object(Text, "draw", record):
        figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255  # type: ignore[attr-defined]
    labels = {id(label) for tick in figure.findobj(Tick) for label in (tick.label1, tick.label2)}
    high, wide = pixels.shape[:2]
    return Picture(
        tuple(
            Drawn(text, corners, _ground(pixels, corners), id(text) in labels, float(text.get_fontsize()))
            for text, corners in texts
        ),
        (wide, high),
    )


def _corners(text: Text, renderer: Any) -> np.ndarray:
    """Corners of a text's box, turned with it: a turned box has the centre of its upright bounding box."""
    bounds = (
        Text.get_window_extent(text, renderer) if not isinstance(text, Annotation) else _without_arrow(text, renderer)
    )
    angle = math.radians(text.get_rotation())
    wide, high = bounds.width, bounds.height
    if angle % (math.pi / 2):
        text.set_rotation(0)
        upright = Text.get_window_extent(text, renderer)
        text.set_rotation(math.degrees(angle))
        wide, high = upright.width, upright.height
    elif angle % math.pi:
        wide, high = high, wide
    along, up = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    centre = np.array([(bounds.x0 + bounds.x1) / 2, (bounds.y0 + bounds.y1) / 2])
    return np.array(
        [centre + i * wide / 2 * along + j * high / 2 * up for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    )


def _without_arrow(text: Annotation, renderer: Any) -> Any:
    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer)


def _ground(pixels: np.ndarray, corners: np.ndarray) -> tuple[float, float, float]:
    """The median colour below the text."""
    high, wide = pixels.shape[:2]
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    columns = slice(max(int(x0), 0), min(math.ceil(x1), wide) or 1)
    rows = slice(max(high - math.ceil(y1), 0), max(high - int(y0), 1))
    below = pixels[rows, columns].reshape(-1, 3)
    if not len(below):
        return (1.0, 1.0, 1.0)
    red, green, blue = np.median(below, axis=0)
    return float(red), float(green), float(blue)


def _inside(corners: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> bool:
    slack = 1.0  # a pixel of antialiasing
    return bool((corners >= [x0 - slack, y0 - slack]).all() and (corners <= [x1 + slack, y1 + slack]).all())


def _clipped(one: Drawn) -> bool:
    box = one.text.get_clip_box()
    if not one.text.get_clip_on() or box is None:
        return False
    return not _inside(one.corners, box.x0, box.y0, box.x1, box.y1)


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two rectangles, a little shrunk, have a common point (separating axes)."""
    a, b = (box.mean(0) + (box - box.mean(0)) * (1 - AIR) for box in (a, b))
    for box in (a, b):
        for edge in (box[1] - box[0], box[3] - box[0]):
            if (norm := float(np.linalg.norm(edge))) == 0:
                return False
            first, second = a @ edge / norm, b @ edge / norm
            if first.max() <= second.min() or second.max() <= first.min():
                return False
    return True
