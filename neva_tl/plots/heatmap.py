"""Leakage as a matrix of steered by measured values."""

from __future__ import annotations

import math
from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neva_tl.plots.canvas import Look
from neva_tl.plots.style import (
    DIVERGING,
    condition_label,
    conditions,
    literal,
    need,
    new_figure,
    of_condition,
    present_values,
    short,
    styled,
    value_grid,
)

COLUMNS = ("method", "steered", "measured", "d", "lo", "hi")
#: Inches of a cell, of the room around the cells of a panel, and of a letter of its title.
CELL, ROOM, LETTER = 0.31, 0.35, 0.08
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
    df = need(df, COLUMNS, "leakage")
    panels = conditions(df)
    rows_of = present_values(df["steered"])
    columns_of = present_values(df["measured"])
    limit = scale or float(np.nanmax(np.abs(df["d"].to_numpy(dtype=float)), initial=0.0)) or 1.0
    across = min(columns, len(panels))
    down = math.ceil(len(panels) / across)
    titles = [literal(condition_label(*panel)) for panel in panels]
    # panels of few values are narrower than their titles, which then have a line for each part
    narrow = max(map(len, titles)) * LETTER > ROOM + CELL * len(columns_of)
    lines = max(title.count(" · ") for title in titles) if narrow else 0
    width = 1.05 + across * (ROOM + CELL * len(columns_of)) + 0.5
    figure = new_figure(max(width, 4.6), 1.45 + down * (0.27 + 0.13 * lines + CELL * len(rows_of)))
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    norm = Normalize(-limit, limit)
    for index, ax in enumerate(grid.flat):
        if index >= len(panels):
            ax.set_visible(False)
            continue
        _panel(ax, of_condition(df, panels[index]), rows_of, columns_of, norm, numbers)
        ax.set_title(
            titles[index].replace(" · ", "\n") if narrow else titles[index], pad=5, fontsize=8 if narrow else 9
        )
        if index % across == 0:
            ax.set_ylabel("steered towards" if len(rows_of) >= ROWS_OF_LABEL else "steered")
        # a panel above an empty cell of the grid is the lowest of its column and keeps its names
        bottom = index + across >= len(panels)
        ax.tick_params(labelbottom=bottom)
        if bottom:
            ax.set_xlabel("measured")
    bar = figure.colorbar(
        ScalarMappable(norm, DIVERGING), ax=list(grid.flat), shrink=min(1.0, 0.75 / down + 0.15), aspect=28, pad=0.015
    )
    bar.set_label("D = change of the measured value")
    bar.outline.set_visible(False)  # type: ignore[operator]
    figure.supxlabel(
        "outlined: gain · faint: 95 % interval contains 0 · one scale for all panels", fontsize=7, color="#666666"
    )
    return figure


def _panel(
    ax: Axes, rows: pd.DataFrame, rows_of: list[str], columns_of: list[str], norm: Normalize, numbers: bool
) -> None:
    def table(column: str) -> np.ndarray:
        wide = rows.pivot_table(index="steered", columns="measured", values=column, aggfunc="mean", dropna=False)
        return wide.reindex(index=rows_of, columns=columns_of).to_numpy(dtype=float)

    d, lo, hi = table("d"), table("lo"), table("hi")
    solid = np.isfinite(d) & ((lo > 0) | (hi < 0))
    # fading towards white keeps hue and sign readable where a change may be noise
    ax.imshow(d, cmap=DIVERGING, norm=norm, alpha=np.where(solid, 1.0, 0.28), interpolation="nearest", aspect="equal")
    value_grid(ax, columns_of, rows_of)
    for row, steered in enumerate(rows_of):
        for column, measured in enumerate(columns_of):
            if steered == measured:
                ax.add_patch(
                    Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#111111", linewidth=1.1)
                )
            if not np.isfinite(d[row, column]):
                ax.text(column, row, "·", ha="center", va="center", fontsize=6, color="#999999")
            elif numbers:
                strong = solid[row, column]
                dark = strong and abs(d[row, column]) > 0.62 * norm.vmax  # type: ignore[operator]
                ax.text(
                    column,
                    row,
                    short(d[row, column], fixed=True),
                    ha="center",
                    va="center",
                    fontsize=5.6,
                    color="white" if dark else ("#222222" if strong else "#9a9a9a"),
                )
