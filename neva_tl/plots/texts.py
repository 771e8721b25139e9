"""Unedited and steered texts side by side, with the changed words in colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import Look, own_axes, page_width, text_width, wrap
from neva_tl.plots.lens import one_line
from neva_tl.plots.palette import ink
from neva_tl.plots.style import (
    FAINT,
    need,
    new_figure,
    short,
    styled,
    value_colour,
)
from neva_tl.plots.text_pairs import LONGEST_WORD, Word, split_words, text_pairs, word_diff

COLUMNS = ("method", "steered", "prompt", "text")
#: Sizes in points: font, line height, margin, gap between columns, width of the score column.
FONT, LINE, MARGIN, GAP, SCORE = 8.0, 12.0, 10.0, 18.0, 56.0
#: Points below which a figure has its headings on two lines.
NARROW = 360.0
#: Colours of words that both texts have, and of words that only the unedited text has.
SHARED, REMOVED = "#666b70", "#222222"


@styled
def texts_plot(
    table: pd.DataFrame,
    *,
    value: str | None = None,
    method: str | None = None,
    target_gain: float | None = None,
    rows: int = 5,
    words: int = 24,
    **look: Unpack[Look],
) -> Figure:
    """Texts of the same prompts, unedited on the left and steered on the right.

    With scores in the table, prompts are drawn at evenly spaced ranks of the change in score, from the largest to the
    smallest, so that the picture shows failures too; without scores, the first prompts. A table without steered texts
    (a run whose methods write none) gives the unedited column alone.

    Args:
        table: table `generations`: method, steered, prompt, text; target_gain, sample and score_VALUE where available.
        value: The steered value; by default the one whose mean change in score is the median (the upper of two), without
            scores the first in circle order.
        method: The method; by default the first that has steered texts.
        target_gain: The matched gain; by default the largest.
        rows: Number of prompts.
        words: Maximum number of words of a text.
        **look: See `Look`.

    Raises:
        InputError: A column is missing, or the table has no unedited texts, or none of the requested method and value.

    Example:
        >>> figure = nv.plots.texts_plot(nv.plots.read_table(run, "generations"), value="power", rows=2)
    """
    table = need(table, COLUMNS, "generations")
    pairs, value, label = text_pairs(table, value, method, target_gain)
    if own_axes() is not None:
        raise InputError(
            "texts_plot draws on a whole figure, because it computes the place of every word: leave ax= out"
        )
    page = 72 * page_width()
    colour, scored = ink(value_colour(value)) if value else SHARED, bool(pairs["change"].notna().any())
    picked = _spread(pairs, rows)
    column = (page - 2 * MARGIN - GAP - (SCORE if scored else 0)) / 2
    left, right, end = MARGIN, MARGIN + column + GAP, page - MARGIN
    # a bold letter is at most as wide as the font is high
    blocks, longest = [], min(LONGEST_WORD, int(column / (0.75 * FONT)))
    for row in picked:
        plain = [(word, True) for word in split_words(row.before, words, longest)]
        sides = word_diff(row.before, row.after, words, longest) if value else (plain, [])
        blocks.append((row, _lines(sides[0], column, "normal"), _lines(sides[1], column, "bold")))

    narrow = page < NARROW
    note = _note(scored, len(picked), len(pairs), bool(value))
    note = wrap(note, (end - left) / 72 - 0.3, FONT - 1.5)
    head = 4.1 + narrow + note.count("\n")
    figure, ax = _canvas(page, (head + sum(1.9 + max(len(before), len(after)) for _, before, after in blocks)) * LINE)
    y = 1.5 * LINE
    _write(ax, left, y, "unedited", colour=REMOVED, weight="bold", size=FONT + 1)
    towards = f"towards {value}" if value else ""
    _write(ax, right, y, towards, colour=colour, weight="bold", size=FONT + 1)
    x = right if narrow else right + text_width(towards, FONT + 1, "bold") + 6
    y += narrow * LINE
    _write(ax, x, y, label, colour=SHARED, size=FONT - 1)
    if scored:
        _write(
            ax,
            end,
            y - narrow * LINE,
            "score" if narrow else "judge's score",
            colour=SHARED,
            size=FONT - 1,
            align="right",
        )
    y += 0.5 * LINE
    for row, before, after in blocks:
        _rule(ax, y, page)
        y += 1.2 * LINE
        _write(ax, left, y, _cut(row.prompt, end - left - SCORE) + " …", colour="#555555", style="italic")
        if scored:
            change = f"{short(row.score_before)} → {short(row.score_after)}"
            _write(ax, end, y + LINE, change, colour=REMOVED, align="right", size=FONT - 0.5)
        _draw_lines(ax, left, y + LINE, before, REMOVED, "normal")
        _draw_lines(ax, right, y + LINE, after, colour, "bold")
        y += (0.7 + max(len(before), len(after))) * LINE
    _rule(ax, y, page)
    for number, line in enumerate(note.split("\n")):
        _write(ax, left, y + (1 + number) * LINE, line, colour=SHARED, size=FONT - 1.5)
    return figure


def _canvas(page: float, height: float) -> tuple[Figure, Axes]:
    """A figure of `page` by `height` points and axes over all of it, in points."""
    figure = new_figure(page / 72, height / 72)
    figure.set_layout_engine("none")  # every position is computed here
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, page)
    ax.set_ylim(height, 0)
    ax.set_axis_off()
    return figure, ax


def _rule(ax: Axes, y: float, page: float) -> None:
    ax.plot((MARGIN, page - MARGIN), (y, y), color=FAINT, linewidth=0.7)


def _spread(pairs: pd.DataFrame, rows: int) -> list[pd.Series]:
    """Rows at evenly spaced ranks of the change, or else the first rows."""
    ranked = pairs.sort_values("change", ascending=False, kind="stable", na_position="last")
    ranked = ranked[ranked["change"].notna()] if ranked["change"].notna().any() else ranked.head(rows)
    picks = np.unique(np.linspace(0, len(ranked) - 1, min(rows, len(ranked))).round().astype(int))
    return [ranked.iloc[pick] for pick in picks]


def _lines(words: Sequence[Word], width: float, weight: str) -> list[list[Word]]:
    """Wrap words into lines of at most `width` points; changed words have the weight."""
    lines: list[list[Word]] = [[]]
    used = 0.0
    for word in words:
        size = text_width(word[0] + " ", FONT, weight if word[1] else "normal")
        if lines[-1] and used + size > width:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += size
    return lines


def _draw_lines(ax: Axes, left: float, y: float, lines: Sequence[Sequence[Word]], marked: str, weight: str) -> None:
    """Draw lines word by word.

    The drawn width of a longer text differs from its computed width by font hinting.
    """
    for number, line in enumerate(lines):
        x = left
        for word, changed in line:
            style = weight if changed else "normal"
            _write(ax, x, y + number * LINE, word, colour=marked if changed else SHARED, weight=style)
            x += text_width(word + " ", FONT, style)


def _write(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    *,
    colour: str,
    weight: str = "normal",
    style: str = "normal",
    size: float = FONT,
    align: str = "left",
) -> None:
    ax.text(x, y, text, color=colour, fontsize=size, fontweight=weight, fontstyle=style, ha=align, parse_math=False)


def _cut(text: str, width: float) -> str:
    """The start of a prompt that fits into `width` points."""
    text = one_line(text, len(text))
    while text and text_width(text + " …", FONT) > width:
        text = text[: -max(1, len(text) // 20)]
    return text


def _note(scored: bool, shown: int, total: int, compared: bool) -> str:
    if not compared:
        return f"{shown} of {total} prompts."
    order = "at evenly spaced ranks of the change in the judge's score, largest first" if scored else "the first ones"
    which = f"All {total} prompts" if shown == total else f"{shown} of {total} prompts, {order}"
    return f"{which}. In colour: words that the unedited text does not have there."
