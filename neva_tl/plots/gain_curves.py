"""Leakage and divergence of each method against its gain on test prompts."""

from __future__ import annotations

from typing import Any, Unpack

import pandas as pd
from matplotlib.figure import Figure

from neva_tl.plots.canvas import Look
from neva_tl.plots.style import method_colour, method_label, method_order, need, new_figure, styled

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
    figure = new_figure(7.4, 0.4 + 2.0 * len(gates))
    grid = figure.subplots(len(gates), len(MEASURES), squeeze=False)
    for gate, axes in zip(gates, grid, strict=True):
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
                    line["gain"], line[name], "-o", color=colour, markersize=3, label=method_label(method), zorder=3
                )
            ax.set_xlabel("gain on test prompts")
            ax.set_ylabel(label)
            if name == "kl":
                ax.set_ylim(bottom=0)
        axes[0].set_title(f"gate: {gate}", loc="left")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
