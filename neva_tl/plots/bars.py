"""Bars of all methods side by side, every measure with its interval."""

from __future__ import annotations

import math
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import MUTED, Look, Sheet, own_axes, page_width, small, widest, wrap
from neva_tl.plots.journal import SMALLEST
from neva_tl.plots.style import (
    condition_label,
    conditions,
    halo,
    literal,
    method_colour,
    need,
    of_condition,
    short,
    styled,
)

#: Inches of a panel in a wide and in a narrow figure.
PANEL, NARROW = 0.82, 0.75
#: Inches that fit on a page; a figure that is taller leaves out measures in this order.
TALLEST, FIRST_OUT = 8.6, ("ppl", "acc", "csr", "invalid", "kl", "ngl", "nlr", "gain")
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
        measures: names out of `MEASURES`; by default those that the table has and that fit on a page.
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
    if not columns:
        raise InputError(f"table 'methods' has no number of {', '.join(measures or MEASURES)}: nothing to draw")
    rows = conditions(methods)
    tick, width = float(mpl.rcParams["ytick.labelsize"]), page_width()
    # labels of conditions take at most two fifths of the width, and break between their parts
    names = [literal(condition_label(*row)).replace(" ", "\u00a0").replace("·\u00a0", "· ") for row in rows]
    names = [wrap(name, 0.38 * width, tick).replace("\u00a0", " ") for name in names]
    lines = max(name.count("\n") for name in names) + 1
    room = width - widest(names, tick) - 0.3
    band = 0.55 + max(0.24, 0.05 + lines * tick * 1.25 / 72) * len(rows)
    left_out: list[str] = []
    while True:
        across = min(len(columns), max(1, int(room / (NARROW if width < 4 else PANEL))))
        down = math.ceil(len(columns) / across)
        if measures or own_axes() or len(columns) < 2 or down * band <= TALLEST:
            break
        left_out.append(next(name for name in FIRST_OUT if name in columns))
        columns.remove(left_out[-1])
    across = len(columns) if own_axes() else math.ceil(len(columns) / down)
    down = math.ceil(len(columns) / across)
    sheet = Sheet(0.4 + down * band, down, across, used=len(columns), sharey=True)
    for index, (ax, name) in enumerate(zip(sheet.axes, columns, strict=True)):
        title, base, lower = MEASURES[name]
        _column(ax, methods, rows, name, base, (room / across - 0.1) if sheet.own else width / len(columns))
        sheet.title(
            title + ("\u00a0↓" if lower else "\u00a0↑"),
            ax,
            room=width - room,
            columns=across,
            fontsize=mpl.rcParams["axes.labelsize"] if width > 4 else small(),
        )
        ax.xaxis.set_major_locator(MaxNLocator(nbins=1 if room / across < 0.6 else 2 if room / across < 0.9 else 3))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, 3)))
        if index % across == 0:
            ax.set_yticks(range(len(rows)), names)
        elif not sheet.own:
            ax.set_yticks([])
        ax.grid(axis="x", color="#eeeeee", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_ylim(len(rows) - 0.4, -0.75)
    note = "whiskers: 95 % intervals · dashed: unedited model · arrow: which way is better"
    absent = ", ".join(MEASURES[name][0] for name in left_out)
    sheet.note(note + (f"\nno room for {absent}: choose with measures=" if absent else ""))
    return sheet.figure


def _column(
    ax: Axes, methods: pd.DataFrame, rows: list[tuple[str, str, float]], name: str, base: str | None, width: float
) -> None:
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
                "not defined" if width > 0.6 else "–",
                va="center",
                ha="left",
                color=MUTED,
                fontsize=SMALLEST,
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
                fontsize=SMALLEST,
            )
        )
    # a rate that is 0 everywhere has no span of its own
    span = high_limit - low_limit if high_limit - low_limit > 1e-9 else 1.0
    # an estimate at an end has its number inside the panel
    label = 0.11 / max(width, 0.3)
    ax.set_xlim(low_limit - max(0.06, label) * span, high_limit + max(0.1, label) * span)
