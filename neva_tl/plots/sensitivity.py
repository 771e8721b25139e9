"""Sensitivity to single factors, and gain against the number of neurons."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from neva_tl.plots.canvas import Look, Sheet, own_axes, page_width, small, widest, wrap
from neva_tl.plots.style import (
    GREY,
    literal,
    method_code,
    method_colour,
    method_label,
    method_order,
    need,
    present_values,
    short,
    styled,
    value_code,
    value_colour,
)

MEASURES = (("gain", "gain"), ("leakage", "leakage"), ("kl", "KL on neutral text"))
COLUMNS = ("factor", "level", "own", "method", "gain", "leakage", "kl")


@styled
def sensitivity_plot(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw gain, leakage and KL at every level, a column per factor.

    The horizontal line marks the run's own setting. Levels of `dose` are fixed doses in the method's unit; all others are at
    a dose matched on validation prompts. Bars are 95 % intervals over test prompts. A level without neurons for any value
    has no point.

    Args:
        df: table `sensitivity`: factor, level, own, method, gain, leakage, kl; optionally gain_lo, gain_hi, leakage_lo,
            leakage_hi.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> levels = pd.DataFrame({"factor": "scope", "level": ["last", "all"], "own": [True, False], "method": "neva"})
        >>> figure = nv.plots.sensitivity_plot(levels.assign(gain=[0.4, 0.3], leakage=0.02, kl=0.1))
    """
    df = need(df, COLUMNS, "sensitivity")
    factors = list(dict.fromkeys(df["factor"]))
    levels = {factor: _levels(df[df["factor"] == factor]) for factor in factors}
    width = [len(levels[factor]) for factor in factors]
    tall = 1.15
    names = max(widest(of_factor, float(mpl.rcParams["xtick.labelsize"])) for of_factor in levels.values())
    sheet = Sheet(
        0.7 + names + tall * len(MEASURES),
        len(MEASURES),
        len(factors),
        sharey="row",
        sharex="col",
        gridspec_kw={"width_ratios": width},
    )
    grid = sheet.grid
    unit = (sheet.width - 0.7) / sum(width)
    methods = method_order(df["method"])
    for column_index, factor in enumerate(factors):
        rows = df[df["factor"] == factor]
        for row_index, (name, label) in enumerate(MEASURES):
            ax = grid[row_index, column_index]
            ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
            for offset, method in zip(np.linspace(-0.18, 0.18, len(methods) + 2)[1:-1], methods, strict=True):
                _points(ax, rows[rows["method"] == method], name, levels[factor], float(offset), method)
            if column_index == 0:
                ax.set_ylabel(wrap(label, tall - 0.1, float(mpl.rcParams["axes.labelsize"])))
        grid[0, column_index].set_title(wrap(factor, unit * width[column_index], small(), "bold"), fontsize=small())
        grid[-1, column_index].set_xticks(range(len(levels[factor])), levels[factor], rotation=90)
        grid[-1, column_index].set_xlim(-0.5, len(levels[factor]) - 0.5)
    handles = [
        Line2D([], [], linestyle="", marker=method_code(method)["marker"], color=method_colour(method), markersize=3.5)
        for method in methods
    ]
    sheet.legend(handles, [literal(method_label(method)) for method in methods])
    sheet.note("lines: the run's own setting · bars: 95 % intervals over test prompts")
    return sheet.figure


def _levels(rows: pd.DataFrame) -> list[str]:
    """A factor's levels, the run's own first, numbers ascending.

    Methods may differ in their levels.
    """
    levels = list(dict.fromkeys([*rows.loc[rows["own"].astype(bool), "level"], *rows["level"]]))
    has_own = rows["own"].astype(bool).any()
    head, rest = (levels[:1], levels[1:]) if has_own else ([], levels)
    try:
        return head + sorted(rest, key=float)
    except ValueError:
        return head + rest


def _points(ax: Axes, rows: pd.DataFrame, name: str, levels: list[str], offset: float, method: str) -> None:
    colour = method_colour(method)
    own_setting = rows[rows["own"].astype(bool)]
    if len(own_setting) and np.isfinite(own_setting[name].iloc[0]):
        ax.axhline(own_setting[name].iloc[0], color=colour, linewidth=0.7, alpha=0.5, zorder=1)
    x = np.array([levels.index(level) for level in rows["level"]], dtype=float) + offset
    if {f"{name}_lo", f"{name}_hi"} <= set(rows.columns):
        ax.vlines(x, rows[f"{name}_lo"], rows[f"{name}_hi"], color=colour, linewidth=0.9, zorder=2)
    ax.plot(x, rows[name], linestyle="", marker=method_code(method)["marker"], color=colour, markersize=3.2, zorder=3)


@styled
def sparsity_plot(df: pd.DataFrame, **look: Unpack[Look]) -> Figure:
    """Draw gain against the number of neurons at one dose.

    A panel is a method, a line a value.

    Rings mark the selected sizes.

    Args:
        df: table `sparsity_curve`: method, value, k, gain, chosen (validation prompts).
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"method": "neva", "value": "power", "k": [10, 50], "gain": [0.1, 0.4]})
        >>> figure = nv.plots.sparsity_plot(table.assign(chosen=[False, True]))
    """
    df = need(df, ("method", "value", "k", "gain", "chosen"), "sparsity_curve")
    methods = method_order(df["method"])
    across = len(methods) if own_axes() else min(len(methods), max(1, int(page_width() / 1.5)))
    down = -(-len(methods) // across)
    sheet = Sheet(0.8 + 1.9 * down, down, across, used=len(methods), sharey=True)
    axes = sheet.axes
    values = present_values(df["value"])
    for ax, method in zip(axes, methods, strict=True):
        ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
        for name in values:
            rows = df[(df["method"] == method) & (df["value"] == name)].sort_values("k")
            ax.plot(
                rows["k"],
                rows["gain"],
                color=value_colour(name),
                markersize=2.4,
                linewidth=1.2,
                label=name,
                **value_code(name),
            )
            selected = rows[rows["chosen"].astype(bool)]
            ax.plot(selected["k"], selected["gain"], "o", color=GREY, markersize=7, fillstyle="none", zorder=4)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x, 0)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("neurons edited")
        ax.set_title(literal(method_label(method)), fontsize=mpl.rcParams["axes.labelsize"])
    axes[0].set_ylabel("gain (validation prompts)")
    sheet.legend(*axes[0].get_legend_handles_labels(), right=True)
    sheet.note("ring: the selected size")
    return sheet.figure
