"""Methods side by side, every measure with its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

#: column -> (title, name of the unedited column it stands against, whether lower is better)
MEASURES: dict[str, tuple[str, str | None, bool]] = {
    "csr": ("CSR", "csr_base", False),
    "gain": ("gain", None, False),
    "nlr": ("NLR", None, True),
    "ngl": ("NGL", None, True),
    "invalid": ("invalid rate", None, True),
    "ppl": ("perplexity", "ppl_base", True),
    "acc": ("accuracy", "acc_base", False),
}


@styled
def method_bars(methods: pd.DataFrame, *, measures: tuple[str, ...] | None = None) -> Figure:
    """A row per condition, a column per measure; whiskers are the table's intervals, the dashed line is unedited.

    A measure that is null for a condition (NLR where the gain is not above 0, say) is said to be not defined.

    Args:
        methods: table `methods`: method, gate, target_gain, csr, gain, nlr, ngl (each with _lo, _hi), invalid, ppl, acc
            (each with _base where there is an unedited figure).
        measures: which of `MEASURES`; by default those that the table holds.

    Raises:
        InputError: a column is missing, or the table is empty.
    """
    methods = need(methods, ("method", "gain"), "methods")
    shown = [name for name in (measures or tuple(MEASURES)) if name in methods.columns and methods[name].notna().any()]
    rows = conditions(methods)
    figure = new_figure(1.9 + 1.3 * len(shown), 0.75 + 0.27 * len(rows))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, shown, strict=True):
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
    # One hopeless interval (a ratio whose denominator nears 0) must not squeeze all others: cut at three times the
    # largest estimate, with an arrowhead.
    widest = 3.0 * float(np.nanmax(np.abs(number)))
    left, right = max(float(ends.min()), -widest), min(float(ends.max()), widest)
    if base and base in methods.columns and methods[base].notna().any():
        reference = float(methods[base].dropna().iloc[0])
        ax.axvline(reference, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        left, right = min(left, reference), max(right, reference)
    if name not in ("ppl", "acc"):
        left, right = min(left, 0.0), max(right, 0.0)
        ax.axvline(0, color="#bbbbbb", linewidth=0.7, zorder=0)
    for place, condition in enumerate(rows):
        row = of_condition(methods, condition).iloc[0]
        estimate, colour = float(row[name]), method_colour(condition[0])
        if not np.isfinite(estimate):
            ax.text(
                left + 0.04 * (right - left), place, "not defined", va="center", ha="left", color="#999999", fontsize=6
            )
            continue
        lo, hi = float(row.get(f"{name}_lo", np.nan)), float(row.get(f"{name}_hi", np.nan))
        if name not in ("ppl", "acc"):
            ax.barh(place, estimate, height=0.62, color=colour, alpha=0.32, linewidth=0)
        if np.isfinite(lo) and np.isfinite(hi):
            ax.plot([max(lo, left), min(hi, right)], [place, place], color=colour, linewidth=1.4, solid_capstyle="butt")
            if hi > right:
                ax.plot(right, place, ">", color=colour, markersize=4)
            if lo < left:
                ax.plot(left, place, "<", color=colour, markersize=4)
        ax.plot(estimate, place, "o", color=colour, markersize=4)
        halo(
            ax.annotate(
                short(estimate),
                (estimate, place),
                xytext=(0, 4.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=5.6,
            )
        )
    span = max(right - left, 1e-9)
    ax.set_xlim(left - 0.06 * span, right + 0.1 * span)
