"""Gain against leakage and against cost, all methods at the gains they were matched at."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import Look, Sheet, page_width
from neva_tl.plots.style import literal, method_code, method_colour, method_label, method_order, need, short, styled

COLUMNS = ("method", "gain")
#: Column -> label of its axis.
MEASURES = {"leakage": "leakage", "kl": "KL, nats per token", "invalid": "share of invalid texts"}
#: Inches from which panels are side by side.
SIDE_BY_SIDE = 4.5


@styled
def gain_cost_plot(
    methods: pd.DataFrame, *, measures: tuple[str, ...] = ("leakage", "kl"), **look: Unpack[Look]
) -> Figure:
    """Draw what each method pays for its gain, a panel per price.

    A point is a method at one of the gains that it was matched at (dashed lines); the points of a method are joined, from
    its lowest gain up. Bars are the table's 95 % intervals, where it has them. Further right and lower is better. Methods
    without a dose (role prompts) are at their own gain. KL is drawn on a logarithmic axis.

    Args:
        methods: table `methods`: method, gain; target_gain, leakage, kl, invalid, and `gain_lo`, `gain_hi` and so on, where
            available.
        measures: columns out of leakage, kl, invalid; those that the table lacks, or has no number of, are left out.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, the table is empty, or no measure has a number.

    Example:
        >>> figure = nv.plots.gain_cost_plot(nv.plots.read_table(run, "methods"))
    """
    df = need(methods, COLUMNS, "methods")
    names = method_order(df["method"])
    panels = [name for name in measures if name in df.columns and df[name].notna().any()]
    if not panels:
        raise InputError(f"table 'methods' has no number in {', '.join(measures)}: nothing to draw")
    across = page_width() >= SIDE_BY_SIDE
    rows, columns = (1, len(panels)) if across else (len(panels), 1)
    sheet = Sheet(0.9 + 1.9 * rows, rows, columns, sharex=not across)
    for ax, measure in zip(sheet.axes, panels, strict=True):
        panel(ax, df, measure, names)
    for ax in sheet.grid[-1]:
        ax.set_xlabel("gain")
    handles = {bars.get_label(): bars[0] for ax in sheet.axes for bars in ax.containers}
    labels = [label for name in names if (label := literal(method_label(name))) in handles]
    sheet.legend([handles[label] for label in labels], labels)
    return sheet.figure


def panel(ax: Axes, df: pd.DataFrame, measure: str, names: list[str]) -> None:
    """Draw one measure against gain."""
    for name in names:
        rows = df[df["method"].astype(str) == name].sort_values("gain")
        rows = rows[rows[measure].notna() & rows["gain"].notna()]
        if not len(rows):
            continue
        colour = method_colour(name)
        ax.errorbar(
            rows["gain"],
            rows[measure],
            xerr=interval(rows, "gain"),
            yerr=interval(rows, measure),
            color=colour,
            **method_code(name),
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            linewidth=0.9,
            elinewidth=0.7,
            label=literal(method_label(name)),
        )
    if "target_gain" in df.columns:
        for target in sorted(df["target_gain"].dropna().unique()):
            ax.axvline(target, color="#bbbbbb", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    if measure == "kl" and (df["kl"] > 0).any():
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=8))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: short(y, 4)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
    ax.set_ylabel(MEASURES.get(measure, measure))


def interval(rows: pd.DataFrame, name: str) -> np.ndarray | None:
    """Return the lengths of the intervals below and above the estimates, `(2, rows)`; None without them."""
    if not {f"{name}_lo", f"{name}_hi"} <= set(rows.columns):
        return None
    lengths = np.array([rows[name] - rows[f"{name}_lo"], rows[f"{name}_hi"] - rows[name]], dtype=float)
    return np.clip(np.nan_to_num(lengths), 0, None)
