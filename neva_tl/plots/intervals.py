"""Estimates with their intervals, one row each."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import MUTED, Look, Sheet, page_width, small, ticks_that_fit, widest, wrap
from neva_tl.plots.palette import ink
from neva_tl.plots.style import literal, need, styled, value_colour
from neva_tl.plots.value_names import is_value

COLUMNS = ("label", "est", "lo", "hi")


@styled
def interval_plot(
    df: pd.DataFrame, *, title: str = "", axis: str = "", guide: float | None = None, **look: Unpack[Look]
) -> Figure:
    """Draw points with whiskers, one row each, in the table's order.

    A row without an estimate is labelled "not defined".

    Args:
        df: label, est, lo, hi (NaN or None where unknown). Labels that name values take their colours.
        title: text above the axes.
        axis: label of the x axis.
        guide: position of a vertical line, for example 1 for ratios.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"label": ["neva", "caa"], "est": [0.4, 0.5], "lo": [0.3, 0.4], "hi": [0.5, 0.6]})
        >>> figure = nv.plots.interval_plot(table, axis="gain", guide=0.0)
    """
    df = need(df, COLUMNS, "intervals").reset_index(drop=True)
    size = float(mpl.rcParams["ytick.labelsize"])
    most = 0.45 * page_width()
    names = [wrap(literal(_shortened(str(label), 60)), most, size) for label in df["label"]]
    lines = max(name.count("\n") for name in names) + 1
    sheet = Sheet(0.75 + max(0.24, 0.04 + 0.017 * size * lines) * len(df) + (0.3 if title else 0))
    ax = sheet.ax
    if guide is not None:
        ax.axvline(guide, color="#bbbbbb", linewidth=0.8, zorder=0)
    for y, (_, row) in enumerate(df.iterrows()):
        label, est = str(row["label"]), float(row["est"])
        colour = value_colour(label) if is_value(label) else "#12679e"
        if not np.isfinite(est):
            ax.text(0.5, float(y), "not defined", transform=ax.get_yaxis_transform(), ha="center", va="center",
                    fontsize=small(), color=MUTED)  # fmt: skip
            continue
        ends = [float(row["lo"]), float(row["hi"])]
        if np.isfinite(ends).all():
            ax.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt", zorder=2)
        ax.plot([est], [y], "o", color=colour, markersize=4, zorder=3)
    ax.set_yticks(range(len(df)), names)
    for tick in ax.get_yticklabels():
        if is_value(tick.get_text()):
            tick.set_color(ink(value_colour(tick.get_text())))
    ax.set_ylim(len(df) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    room = sheet.width - widest(names, size) - 0.3
    ax.set_xlabel(wrap(literal(axis), room, float(mpl.rcParams["axes.labelsize"])))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=min(7, ticks_that_fit(room))))
    if title:
        sheet.title(literal(_shortened(title, 90)), room=widest(names, size) + 0.3, loc="left")
    return sheet.figure


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
