"""Leakage as a matrix of steered by measured values."""

from __future__ import annotations

import math
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neva_tl.plots.canvas import MUTED, Look, Sheet, own_axes, page_width, text_width, widest, wrap
from neva_tl.plots.journal import SMALLEST
from neva_tl.plots.palette import on
from neva_tl.plots.style import (
    DIVERGING,
    colour_value_ticks,
    condition_label,
    conditions,
    literal,
    need,
    of_condition,
    present_values,
    short,
    styled,
    value_grid,
)

COLUMNS = ("method", "steered", "measured", "d", "lo", "hi")
#: Inches of the largest cell and of the smallest beside other panels, between panels, and of the narrowest title.
CELL, NARROWEST, GAP, TITLE = 0.31, 0.21, 0.2, 0.9
#: Opacity of a cell whose change may be noise.
FADED = 0.28
DIVERGING_MAP = mpl.colormaps[DIVERGING]
#: Rows that the label "steered towards" needs.
ROWS_OF_LABEL = 4


@styled
def leakage_heatmap(
    df: pd.DataFrame, *, columns: int = 3, scale: float | None = None, numbers: bool = True, **look: Unpack[Look]
) -> Figure:
    """Draw a matrix of steered by measured values for each condition.

    A condition is a (method, gate, target gain); all panels share one colour scale. A cell is faint where its interval
    contains 0 (or is missing); the diagonal (the gain) is outlined.

    Args:
        df: table `leakage`: method, gate, target_gain, steered, measured, d, lo, hi.
        columns: panels side by side.
        scale: |d| at the ends of the colour map; by default the largest |d| in the table.
        numbers: write d into the cells.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.leakage_heatmap(nv.plots.read_table(run, "leakage"))
    """
    return draw_heatmaps(need(df, COLUMNS, "leakage"), columns, scale, numbers)


def draw_heatmaps(
    df: pd.DataFrame,
    columns: int = 3,
    scale: float | None = None,
    numbers: bool = True,
    *,
    rows: str = "steered towards",
    cell: tuple[str, str] = ("D", "change of the measured value"),
    outlined: str = "gain",
) -> Figure:
    """Draw the matrices of `leakage_heatmap` under other names.

    Args:
        df: method, gate, target_gain, steered, measured, d, lo, hi.
        columns: See `leakage_heatmap`.
        scale: See `leakage_heatmap`.
        numbers: See `leakage_heatmap`.
        rows: label of the rows.
        cell: symbol and meaning of a cell.
        outlined: meaning of the diagonal.
    """
    panels = conditions(df)
    rows_of = present_values(df["steered"])
    columns_of = present_values(df["measured"])
    limit = scale or float(np.nanmax(np.abs(df["d"].to_numpy(dtype=float)), initial=0.0)) or 1.0
    titles = [literal(condition_label(*panel)) for panel in panels]
    width, size = page_width(), float(mpl.rcParams["axes.titlesize"])
    names = widest(rows_of, float(mpl.rcParams["ytick.labelsize"])) + 0.25
    bar_room = 0.75
    # panels side by side as long as a cell holds its number
    fit = (width - names - bar_room) / (max(len(columns_of), 1) * NARROWEST + GAP)
    across = len(panels) if own_axes() else min(columns, len(panels), max(1, int(fit)))
    down = math.ceil(len(panels) / across)
    panel = (width - names - bar_room) / across - GAP
    cell_size = min(CELL, panel / len(columns_of))
    short_numbers = 72 * cell_size < text_width("−.00", SMALLEST) + 1.5
    titles = [wrap(title, max(panel, TITLE), size, "bold") for title in titles]
    lines = max(title.count("\n") for title in titles)
    below = 0.75 + 0.82 * widest(columns_of, float(mpl.rcParams["xtick.labelsize"]))
    sheet = Sheet(
        below + down * (0.36 + 0.15 * lines + cell_size * len(rows_of)),
        down,
        across,
        used=len(panels),
        sharex=True,
        sharey=True,
    )
    norm = Normalize(-limit, limit)
    for index, ax in enumerate(sheet.axes):
        _panel(ax, of_condition(df, panels[index]), rows_of, columns_of, norm, numbers, hundredths=short_numbers)
        ax.set_title(titles[index], pad=5)
        if index % across == 0:
            ax.set_ylabel(rows if len(rows_of) >= ROWS_OF_LABEL else rows.split()[0])
        else:
            ax.tick_params(labelleft=False)
        # a panel above an empty cell of the grid is the lowest of its column and keeps its names
        bottom = index + across >= len(panels)
        ax.tick_params(labelbottom=bottom)
        if bottom:
            ax.set_xlabel("measured")
            colour_value_ticks(ax, "x")
    bar = sheet.figure.colorbar(
        ScalarMappable(norm, DIVERGING), ax=sheet.axes, shrink=min(1.0, 0.75 / down + 0.15), aspect=28, pad=0.015
    )
    bar_label = wrap(
        f"{cell[0]} = {cell[1]}", 0.9 * below + cell_size * len(rows_of), float(mpl.rcParams["axes.labelsize"])
    )
    bar.set_label(bar_label)
    bar.outline.set_visible(False)  # type: ignore[operator]
    unit = f" · numbers: hundredths of {cell[0]}" if numbers and short_numbers else ""
    scale_note = " · one scale for all panels" if len(panels) > 1 else ""
    sheet.note(f"outlined: {outlined} · faint: 95 % interval contains 0{scale_note}{unit}")
    return sheet.figure


def _panel(
    ax: Axes,
    rows: pd.DataFrame,
    rows_of: list[str],
    columns_of: list[str],
    norm: Normalize,
    numbers: bool,
    *,
    hundredths: bool,
) -> None:
    def table(column: str) -> np.ndarray:
        wide = rows.pivot_table(index="steered", columns="measured", values=column, aggfunc="mean", dropna=False)
        return wide.reindex(index=rows_of, columns=columns_of).to_numpy(dtype=float)

    d, lo, hi = table("d"), table("lo"), table("hi")
    solid = np.isfinite(d) & ((lo > 0) | (hi < 0))
    # fading towards white keeps hue and sign readable where a change may be noise
    ax.imshow(d, cmap=DIVERGING, norm=norm, alpha=np.where(solid, 1.0, FADED), interpolation="nearest", aspect="auto")
    value_grid(ax, columns_of, rows_of)
    for row, steered in enumerate(rows_of):
        for column, measured in enumerate(columns_of):
            if steered == measured:
                ax.add_patch(
                    Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#111111", linewidth=1.1)
                )
            ground = DIVERGING_MAP(norm(d[row, column]))
            if not solid[row, column]:
                ground = tuple(FADED * one + (1 - FADED) for one in ground[:3])
            if not np.isfinite(d[row, column]):
                ax.text(column, row, "·", ha="center", va="center", fontsize=SMALLEST, color=MUTED)
            elif numbers:
                number = (
                    f"{100 * d[row, column]:.0f}".replace("-", "−") if hundredths else short(d[row, column], fixed=True)
                )
                ax.text(
                    column,
                    row,
                    "0" if number == "−0" else number,
                    ha="center",
                    va="center",
                    fontsize=SMALLEST,
                    color=on(ground) if solid[row, column] else MUTED,
                )
