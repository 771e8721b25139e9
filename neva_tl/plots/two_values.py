"""Two values steered together: their gains, and the leakage to the others."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import Look, Sheet, own_axes, page_width, ticks_that_fit, widest, wrap
from neva_tl.plots.style import literal, method_code, method_colour, method_label, method_order, need, styled

COLUMNS = ("kind", "method", "dose_share", "gain", "min_gain", "leakage")
MEASURES = (
    ("gain", "mean gain of the two"),
    ("min_gain", "smaller gain"),
    ("leakage", "leakage"),
    ("invalid", "invalid rate"),
)


@styled
def two_values_plot(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw means over the pairs of values of each kind.

    A row is a kind and method, a panel a measure.

    Bars are 95 % intervals over test prompts.

    Args:
        df: table `two_values_kinds`: kind, method, dose_share, gain, min_gain, leakage; optionally their intervals
            (`gain_lo`, `gain_hi` and so on) and invalid.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"kind": ["compatible", "opposed"], "method": "neva", "dose_share": 0.5, "invalid": 0.0})
        >>> figure = nv.plots.two_values_plot(table.assign(gain=0.2, min_gain=0.1, leakage=0.02))
    """
    df = need(df, COLUMNS, "two_values_kinds")
    order = method_order(df["method"])
    rows = [
        (kind, method, share)
        for kind in dict.fromkeys(df["kind"])
        for method in order
        for share in sorted(df["dose_share"].unique(), reverse=True)
    ]
    table = df.set_index(["kind", "method", "dose_share"])
    rows = [row for row in rows if row in table.index]
    measures = [(name, label) for name, label in MEASURES if name in df.columns]
    several = df["dose_share"].nunique() > 1
    names = [
        literal(f"{kind} · {method_label(m)}" + (f" · dose × {share:g}" if several else "")) for kind, m, share in rows
    ]
    size = float(mpl.rcParams["ytick.labelsize"])
    names = [wrap(name, max(0.4 * page_width(), 1.2), size) for name in names]
    lines = max(name.count("\n") for name in names) + 1
    labels = widest(names, size)
    across = len(measures)
    if own_axes() is None:
        across = min(len(measures), max(1, int((page_width() - labels - 0.2) / 0.75)))
    down = -(-len(measures) // across)
    sheet = Sheet(
        0.4 + down * (0.4 + max(0.18, 0.03 + lines * size * 1.25 / 72) * len(rows)),
        down,
        across,
        used=len(measures),
        sharey=True,
    )
    axes = sheet.axes
    panel = (sheet.width - labels - 0.2) / across
    for ax, (name, label) in zip(axes, measures, strict=True):
        ax.axvline(0, color="#cccccc", linewidth=0.7, zorder=0)
        for y, row in enumerate(rows):
            measured, colour = table.loc[row], method_colour(row[1])  # type: ignore[index]
            if f"{name}_lo" in df.columns and np.isfinite(measured[f"{name}_lo"]):
                ax.hlines(y, measured[f"{name}_lo"], measured[f"{name}_hi"], color=colour, linewidth=1.1, zorder=2)
            ax.plot(
                measured[name],
                y,
                linestyle="",
                marker=method_code(row[1])["marker"],
                color=colour,
                markersize=3.5,
                zorder=3,
            )
        for y in range(1, len(rows)):
            if rows[y][0] != rows[y - 1][0]:
                ax.axhline(y - 0.5, color="#bbbbbb", linewidth=0.7)
        ax.set_xlabel(wrap(label, panel - 0.05, float(mpl.rcParams["axes.labelsize"])))
        ax.xaxis.set_major_locator(MaxNLocator(nbins=ticks_that_fit(panel)))
    for index, ax in enumerate(axes):
        if index % across == 0:
            ax.set_yticks(range(len(rows)), names)
        ax.set_ylim(len(rows) - 0.5, -0.5)
    if any(column.endswith("_lo") for column in df.columns):
        sheet.note("bars: 95 % intervals over test prompts")
    return sheet.figure
