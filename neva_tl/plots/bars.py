"""Bars of all methods side by side, every measure with its interval."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neva_tl.plots.canvas import Look
from neva_tl.plots.style import (
    condition_label,
    conditions,
    halo,
    literal,
    method_colour,
    need,
    new_figure,
    of_condition,
    short,
    styled,
)

#: Column -> (title, column of the unedited model, or None, and whether lower is better).
MEASURES: dict[str, tuple[str, str | None, bool]] = {
    "csr": ("CSR", "csr_base", False),
    "gain": ("gain", None, False),
    "nlr": ("NLR", None, True),
    "ngl": ("NGL", None, True),
    "invalid": ("invalid rate", None, True),
    "ppl": ("perplexity", "ppl_base", True),
    "kl": ("KL (nats)", None, True),
    "acc": ("accuracy", "acc_base", False),
}


@styled
def method_bars(methods: pd.DataFrame, *, measures: tuple[str, ...] | None = None, **look: Unpack[Look]) -> Figure:
    """Draw a row per condition and a column per measure.

    Whiskers are the table's intervals; the dashed line is the unedited model. A measure that is null for a condition
    (NLR where the interval of the gain reaches 0, for example) is labelled "not defined".

    Args:
        methods: table `methods`: method, gate, target_gain, csr, gain, nlr, ngl (each with _lo, _hi), invalid, ppl, kl,
            acc (ppl and acc with _base for the unedited model).
        measures: names out of `MEASURES`; by default those that the table has.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.method_bars(nv.plots.read_table(run, "methods"))
    """
    methods = need(methods, ("method", "gain"), "methods")
    columns = [
        name for name in (measures or tuple(MEASURES)) if name in methods.columns and methods[name].notna().any()
    ]
    rows = conditions(methods)
    figure = new_figure(1.9 + 1.3 * len(columns), 0.75 + 0.27 * len(rows))
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, columns, strict=True):
        title, base, lower = MEASURES[name]
        _column(ax, methods, rows, name, base)
        ax.set_title(title + (" ↓" if lower else " ↑"), fontsize=8)
        ax.margins(x=0.12)
        ax.grid(axis="x", color="#eeeeee", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(rows)), [literal(condition_label(*row)) for row in rows])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(
        "whiskers: 95 % intervals · dashed: unedited model · arrow: which way is better", fontsize=7, color="#666666"
    )
    return figure


def _column(ax: Axes, methods: pd.DataFrame, rows: list[tuple[str, str, float]], name: str, base: str | None) -> None:
    number = methods[name].to_numpy(dtype=float)
    low = methods[f"{name}_lo"].to_numpy(dtype=float) if f"{name}_lo" in methods.columns else number
    high = methods[f"{name}_hi"].to_numpy(dtype=float) if f"{name}_hi" in methods.columns else number
    ends = np.concatenate([number, low, high])
    ends = ends[np.isfinite(ends)]
    # A very wide interval (a ratio whose denominator nears 0) would squeeze all others: axes end at three times the
    # largest estimate, and an arrowhead marks the cut.
    widest = 3.0 * float(np.nanmax(np.abs(number)))
    low_limit, high_limit = max(float(ends.min()), -widest), min(float(ends.max()), widest)
    if base and base in methods.columns and methods[base].notna().any():
        reference = float(methods[base].dropna().iloc[0])
        ax.axvline(reference, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        low_limit, high_limit = min(low_limit, reference), max(high_limit, reference)
    if name not in ("ppl", "acc"):
        low_limit, high_limit = min(low_limit, 0.0), max(high_limit, 0.0)
        ax.axvline(0, color="#bbbbbb", linewidth=0.7, zorder=0)
    for y, condition in enumerate(rows):
        row = of_condition(methods, condition).iloc[0]
        estimate, colour = float(row[name]), method_colour(condition[0])
        if not np.isfinite(estimate):
            ax.text(
                low_limit + 0.04 * (high_limit - low_limit),
                y,
                "not defined",
                va="center",
                ha="left",
                color="#999999",
                fontsize=6,
            )
            continue
        lo, hi = float(row.get(f"{name}_lo", np.nan)), float(row.get(f"{name}_hi", np.nan))
        if name not in ("ppl", "acc"):
            ax.barh(y, estimate, height=0.62, color=colour, alpha=0.32, linewidth=0)
        if np.isfinite(lo) and np.isfinite(hi):
            ax.plot(
                [max(lo, low_limit), min(hi, high_limit)], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt"
            )
            if hi > high_limit:
                ax.plot(high_limit, y, ">", color=colour, markersize=4)
            if lo < low_limit:
                ax.plot(low_limit, y, "<", color=colour, markersize=4)
        ax.plot(estimate, y, "o", color=colour, markersize=4)
        halo(
            ax.annotate(
                short(estimate, 3 if name == "kl" else 2),
                (estimate, y),
                xytext=(0, 4.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=5.6,
            )
        )
    # a rate that is 0 everywhere has no span of its own
    span = high_limit - low_limit if high_limit - low_limit > 1e-9 else 1.0
    ax.set_xlim(low_limit - 0.06 * span, high_limit + 0.1 * span)
