"""Small figures of a study's inputs: prompts, statistics, gate, search for a dose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neva_tl.plots.canvas import Look, Sheet, page_width, small, ticks_that_fit, wrap
from neva_tl.plots.dose import dose_axis
from neva_tl.plots.style import (
    colour_value_ticks,
    halo,
    literal,
    need,
    present_values,
    short,
    styled,
    value_code,
    value_colour,
)

#: Opacity of each split's segment of a bar.
SPLITS = {"train": 1.0, "validation": 0.55, "test": 0.28}


@styled
def prompt_counts(df: pd.DataFrame, *, title: str = "", **look: Unpack[Look]) -> Figure:
    """Draw the number of texts per value and pole.

    Bars of the `+` pole point to the right, of the `-` pole to the left.

    The segments of a bar are the splits.

    Args:
        df: value, pole, split; one row per text.
        title: text above the axes.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.prompt_counts(pairs.df)
    """
    df = need(df, ("value", "pole", "split"), "prompts")
    values = present_values(df["value"])
    count = df.groupby(["value", "pole", "split"]).size()
    sheet = Sheet(1.0 + 0.22 * len(values))
    ax = sheet.ax
    for row, name in enumerate(values):
        for pole, sign in (("+", 1), ("-", -1)):
            start = 0
            for split, depth in SPLITS.items():
                n = int(count.get((name, pole, split), 0))
                ax.barh(
                    row, sign * n, left=sign * start, height=0.72, color=value_colour(name), alpha=depth, linewidth=0
                )
                start += n
    ax.axvline(0, color="white", linewidth=1.2)
    ax.set_yticks(range(len(values)), values)
    colour_value_ticks(ax, "y")
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=ticks_that_fit(sheet.width - 1.2, 0.4)))
    ax.xaxis.set_major_formatter(lambda x, _: f"{abs(x):,.0f}")
    label = "← texts of the − pole · texts of the + pole →"
    ax.set_xlabel(wrap(label, sheet.width - 1.2, float(mpl.rcParams["axes.labelsize"])))
    sheet.title(literal(title), loc="left")
    splits = [name for name in SPLITS if name in set(df["split"])]
    handles = [Line2D([], [], color="#444444", alpha=SPLITS[name], linewidth=5) for name in splits]
    sheet.legend(handles, splits)
    return sheet.figure


@styled
def contrast_profile(df: pd.DataFrame, *, title: str = "", **look: Unpack[Look]) -> Figure:
    """Draw the distance of the poles in each layer before any selection.

    The distance is the 99th percentile of |d| over the layer's neurons.

    Args:
        df: value, layer, d99 (|mean(+) - mean(-)| / pooled sd).
        title: text above the axes.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> figure = nv.plots.contrast_profile(stats.profile())
    """
    df = need(df, ("value", "layer", "d99"), "contrast")
    sheet = Sheet(2.9 if page_width() > 4 else 3.1)
    ax = sheet.ax
    for name in present_values(df["value"]):
        rows = df[df["value"] == name].sort_values("layer")
        ax.plot(
            rows["layer"],
            rows["d99"],
            markersize=2.4,
            color=value_colour(name),
            linewidth=1.2,
            label=name,
            **value_code(name),
        )
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(12, ticks_that_fit(sheet.width - 0.6, 0.3))))
    ax.set_xlabel("layer")
    ax.set_ylabel("|d|, 99th percentile\nof the neurons")
    sheet.title(literal(title), loc="left")
    ax.grid(axis="y", color="#eceef0", linewidth=0.6)
    sheet.legend(*ax.get_legend_handles_labels(), right=True)
    return sheet.figure


@styled
def gate_profile(df: pd.DataFrame, *, title: str = "", **look: Unpack[Look]) -> Figure:
    """Draw the share of tokens for which a relevance gate is open, per layer.

    One line is the share of tokens where values are at stake, the other that of neutral text.

    Args:
        df: layer, caught (share where values are at stake), passed (share of neutral text).
        title: text above the axes.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"layer": [0, 1], "caught": [0.8, 0.9], "passed": [0.1, 0.05]})
        >>> figure = nv.plots.gate_profile(table)
    """
    df = need(df, ("layer", "caught", "passed"), "gate").sort_values("layer")
    sheet = Sheet(2.5)
    ax = sheet.ax
    for column, colour, label in (
        ("caught", "#12679e", "tokens where values are at stake"),
        ("passed", "#7d7d7d", "tokens of neutral text"),
    ):
        ax.plot(df["layer"], df[column], "-o", markersize=3, color=colour, label=label)
    ax.set_ylim(-0.03, 1.03)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(12, ticks_that_fit(sheet.width - 0.6, 0.3))))
    ax.set_xlabel("layer")
    ax.set_ylabel("share that is open")
    sheet.title(literal(title), loc="left")
    sheet.legend(*ax.get_legend_handles_labels())
    return sheet.figure


@styled
def calibration_plot(
    df: pd.DataFrame, doses: Mapping[float, float | None], *, title: str = "", **look: Unpack[Look]
) -> Figure:
    """Draw gain and invalid rate at every dose of a calibration.

    Horizontal lines are the target gains, rings the calibrated doses.

    Args:
        df: dose, gain, invalid, admissible.
        doses: target gain -> calibrated dose, None where out of reach.
        title: text above the axes.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"dose": [2.0, 4.0], "gain": [0.2, 0.5], "invalid": 0.0, "admissible": True})
        >>> figure = nv.plots.calibration_plot(table, {0.4: 3.2})
    """
    df = need(df, ("dose", "gain", "invalid", "admissible"), "calibration").sort_values("dose")
    sheet = Sheet(2.9)
    ax = sheet.ax
    good = df["admissible"].astype(bool)
    ax.plot(df["dose"], df["gain"], color="#12679e", linewidth=1.0, zorder=2)
    ax.plot(df.loc[good, "dose"], df.loc[good, "gain"], "o", color="#12679e", markersize=4, label="gain", zorder=3)
    if (~good).any():
        bad = df[~good]
        ax.plot(bad["dose"], bad["gain"], "x", color="#222222", markersize=5, label="inadmissible", zorder=3)
    ax.plot(df["dose"], df["invalid"], color="#8a8f94", linewidth=1.0, linestyle=(0, (3, 2)), label="invalid rate")
    ax.axhline(0, color="#cccccc", linewidth=0.7, zorder=0)
    dose_axis(ax, df["dose"].to_numpy(dtype=float), 5 if sheet.width > 4 else 3)
    for target, dose in sorted(doses.items()):
        ax.axhline(target, color="#b9bec3", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        label = f"target {short(target)}: " + ("out of reach" if dose is None else f"dose {dose:.3g}")
        halo(ax.text(0.01, target, label, transform=ax.get_yaxis_transform(), ha="left", va="bottom", fontsize=small()))
        if dose is not None:
            height = float(np.interp(dose, df["dose"], df["gain"]))
            ax.plot([dose], [height], "o", markersize=8, markerfacecolor="none", color="#12679e", zorder=4)
    ax.set_xlabel("dose")
    ax.set_ylabel("gain, invalid rate")
    sheet.title(literal(title), loc="left")
    sheet.legend(*ax.get_legend_handles_labels())
    return sheet.figure
