"""Leakage and divergence of each method against its gain on test prompts."""

from __future__ import annotations

from typing import Any, Unpack

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import Look, Sheet, page_width, ticks_that_fit, wrap
from neva_tl.plots.style import literal, method_code, method_colour, method_label, method_order, need, styled

COLUMNS = ("gate", "method", "point", "gain", "leakage", "kl")
MEASURES = (("leakage", "leakage\n(mean over other values)"), ("kl", "KL on neutral text\n(nats per token)"))

BAR: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.6, "zorder": 1}


@styled
def gain_curves_plot(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw a row per gate, a column per measure and a line per method.

    Bars are 95 % intervals over test prompts.

    Args:
        df: table `gain_curves`: gate, method, point, gain, leakage, kl; optionally gain_lo, gain_hi, leakage_lo,
            leakage_hi.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"gate": "none", "method": "caa", "point": [0, 1], "gain": [0.0, 0.4]})
        >>> table = table.assign(leakage=[0.0, 0.1], kl=[0.0, 0.3], loss=[0.0, 0.2])
        >>> figure = nv.plots.gain_curves_plot(table)
    """
    df = need(df, COLUMNS, "gain_curves")
    gates = list(dict.fromkeys(df["gate"]))
    tall = 1.35 if page_width() < 4 else 1.75
    sheet = Sheet(0.75 + (tall + 0.35) * len(gates), len(gates), len(MEASURES))
    for gate, axes in zip(gates, sheet.grid, strict=True):
        rows = df[df["gate"] == gate]
        for ax, (name, label) in zip(axes, MEASURES, strict=True):
            ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
            for method in method_order(rows["method"]):
                line, colour = rows[rows["method"] == method].sort_values("point"), method_colour(method)
                if {"gain_lo", "gain_hi"} <= set(line.columns):
                    ax.hlines(line[name], line["gain_lo"], line["gain_hi"], color=colour, **BAR)
                if {f"{name}_lo", f"{name}_hi"} <= set(line.columns):
                    ax.vlines(line["gain"], line[f"{name}_lo"], line[f"{name}_hi"], color=colour, **BAR)
                ax.plot(
                    line["gain"], line[name], color=colour, markersize=3, linewidth=1.2, zorder=3, **method_code(method)
                )
            ax.set_xlabel(wrap("gain on test prompts", page_width() / 2 - 0.7, float(mpl.rcParams["axes.labelsize"])))
            ax.set_ylabel(wrap(label, tall, float(mpl.rcParams["axes.labelsize"])))
            ax.xaxis.set_major_locator(MaxNLocator(nbins=ticks_that_fit(page_width() / 2 - 0.6)))
            if name == "kl":
                ax.set_ylim(bottom=0)
        axes[0].set_title(f"gate: {gate}", loc="left")
    methods = method_order(df["method"])
    handles = [
        Line2D([], [], color=method_colour(name), linewidth=1.2, markersize=3.5, **method_code(name))
        for name in methods
    ]
    sheet.legend(handles, [literal(method_label(name)) for name in methods])
    if {"gain_lo", "leakage_lo"} & set(df.columns):
        sheet.note("bars: 95 % intervals over test prompts")
    return sheet.figure
