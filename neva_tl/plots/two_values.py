"""Two values steered together: their gains, and the leakage to the others."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neva_tl.plots.canvas import Look
from neva_tl.plots.style import method_colour, method_label, method_order, need, new_figure, styled

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
    figure = new_figure(1.9 + 1.5 * len(measures), 0.8 + 0.2 * len(rows))
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for ax, (name, label) in zip(axes, measures, strict=True):
        ax.axvline(0, color="#cccccc", linewidth=0.7, zorder=0)
        for y, row in enumerate(rows):
            measured, colour = table.loc[row], method_colour(row[1])  # type: ignore[index]
            if f"{name}_lo" in df.columns and np.isfinite(measured[f"{name}_lo"]):
                ax.hlines(y, measured[f"{name}_lo"], measured[f"{name}_hi"], color=colour, linewidth=1.1, zorder=2)
            ax.plot(measured[name], y, "o", color=colour, markersize=3.5, zorder=3)
        for y in range(1, len(rows)):
            if rows[y][0] != rows[y - 1][0]:
                ax.axhline(y - 0.5, color="#bbbbbb", linewidth=0.7)
        ax.set_xlabel(label)
    several = df["dose_share"].nunique() > 1
    names = [f"{kind} · {method_label(m)}" + (f" · dose × {share:g}" if several else "") for kind, m, share in rows]
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure
