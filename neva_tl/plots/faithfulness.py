"""Faithfulness of circuits against their number of nodes."""

from __future__ import annotations

from typing import Any, Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from neva_tl.plots.canvas import MUTED, Look, Sheet, own_axes, page_width, small
from neva_tl.plots.style import GREY, halo, need, present_values, short, styled, value_code, value_colour

COLUMNS = ("value", "size", "f")
#: Faithfulness and size that the guide lines mark: four fifths of the task in at most 60 nodes.
GOAL, SIZE = 0.8, 60


@styled
def faithfulness_plot(df: pd.DataFrame, *, goal: float = GOAL, size: int = SIZE, **look: Unpack[Look]) -> Figure:
    """Draw faithfulness F against the number of nodes, one line per value.

    F = 1: the circuit with everything else ablated does the task as the full model does; 0: as with everything ablated.
    A circuit whose interval contains both 0 and 1 is not drawn. Lines are the test split with 95 % intervals as bands; the
    grey band runs from the mean over values of the random circuits' means to the largest random circuit of any value. A
    second panel shows completeness where the table has it: 1 minus the F of the model with the circuit alone ablated, 1
    where nothing of the task remains.

    Args:
        df: table `circuits`: value, size (nodes: heads + neurons), f; optionally lo, hi, f_train, completeness,
            random_mean, random_max.
        goal: F of the horizontal guide line.
        size: number of nodes of the vertical guide line.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> table = pd.DataFrame({"value": "power", "size": [10, 30, 60], "f": [0.3, 0.6, 0.8], "lo": 0.2, "hi": 0.9})
        >>> figure = nv.plots.faithfulness_plot(table)
    """
    df = need(df, COLUMNS, "circuits")
    values = present_values(df["value"])
    df, unclear = _measurable(df)
    complete = "completeness" in df.columns and bool(df["completeness"].notna().any())
    panels = 1 + complete
    across = panels if page_width() > 4 or own_axes() else 1
    side = 2.9 if across == panels and page_width() > 4 else 2.3
    sheet = Sheet(0.8 + side * (panels // across), panels // across, across, sharex=True)
    axes = sheet.axes
    _random(axes[0], df)
    _curves(axes[0], df, values)
    _guides(axes[0], goal, size)
    reached = int(sum(_reaches(df[df["value"] == name], goal, size) for name in values))
    sheet.title(
        f"F ≥ {short(goal)} within {size} nodes: {reached} of {len(values)} values",
        columns=across,
        room=1.6 if across > 1 else 0.75,
        loc="left",
    )
    levels = [df[name] for name in ("f", "random_mean") if name in df.columns and df[name].notna().any()]
    axes[0].set_ylim(bottom=min([0.0, *(float(level.min()) for level in levels)]) - 0.06)
    if complete:
        _completeness(axes[1], df, values)
        sheet.title(
            "the model without the circuit", axes[1], columns=across, room=1.6 if across > 1 else 0.75, loc="left"
        )
    for ax in axes:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(
            LogLocator(base=10, subs=(1, 2, 5) if page_width() / across > 3 else (1, 3), numticks=20)
        )
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        if ax in axes[-across:]:
            ax.set_xlabel("nodes in the circuit (heads + neurons)")
        ax.grid(axis="y", color="#eceef0", linewidth=0.6)
        ax.set_axisbelow(True)
    _legend(sheet, df, values)
    if unclear:
        about = "whose F is not measurable (its interval contains both 0 and 1)"
        text = f"not drawn: {unclear} of {len(df)} circuits, {about}"
        sheet.note(text)
    return sheet.figure


def _measurable(df: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The table without the F that distinguish neither nothing (0) nor all of the effect (1), and their number."""
    if not {"lo", "hi"} <= set(df.columns):
        return df, 0
    unclear = (df["lo"] <= 0) & (df["hi"] >= 1)
    columns = [name for name in ("f", "lo", "hi", "f_train", "completeness") if name in df.columns]
    return df.assign(**{name: df[name].mask(unclear) for name in columns}), int(unclear.sum())


def _curves(ax: Axes, df: pd.DataFrame, values: list[str]) -> None:
    """Lines of the test split, and of the train split where the table has it."""
    for name in values:
        rows = df[df["value"] == name].sort_values("size")
        colour = value_colour(name)
        if {"lo", "hi"} <= set(rows.columns):
            ax.fill_between(rows["size"], rows["lo"], rows["hi"], color=colour, alpha=0.1, linewidth=0, zorder=2)
        ax.plot(
            rows["size"],
            rows["f"],
            "-",
            marker=value_code(name)["marker"],
            color=colour,
            markersize=2.4,
            linewidth=1.3,
            zorder=4,
        )
        if "f_train" in rows.columns:
            ax.plot(rows["size"], rows["f_train"], color=colour, linewidth=0.6, linestyle=(0, (2, 2)), zorder=3)
    ax.set_ylabel("faithfulness F (test split)")


def _guides(ax: Axes, goal: float, size: int) -> None:
    """Lines at F = 1, F = 0, the goal and the size, the last two with their labels."""
    for height in (1.0, goal):
        ax.axhline(height, color="#777777", linewidth=0.7, linestyle="-" if height == 1 else (0, (4, 3)), zorder=1)
    ax.axhline(0, color="#bbbbbb", linewidth=0.7, zorder=1)
    ax.axvline(size, color="#777777", linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    style: dict[str, Any] = {"ha": "left", "fontsize": small(), "color": MUTED, "zorder": 5}
    halo(ax.text(0.012, goal, short(goal), transform=ax.get_yaxis_transform(), va="bottom", **style))
    halo(ax.text(size, 0.985, f" {size} nodes", transform=ax.get_xaxis_transform(), va="top", **style))


def _completeness(ax: Axes, df: pd.DataFrame, values: list[str]) -> None:
    """The panel of the model without the circuit."""
    for name in values:
        rows = df[df["value"] == name].sort_values("size")
        ax.plot(
            rows["size"],
            rows["completeness"],
            "-",
            marker=value_code(name)["marker"],
            color=value_colour(name),
            markersize=2.4,
            linewidth=1.3,
        )
    for height in (0, 1):
        ax.axhline(height, color="#777777" if height else "#bbbbbb", linewidth=0.7, zorder=1)
    ax.set_ylabel("completeness = 1 − F of the rest")


def _legend(sheet: Sheet, df: pd.DataFrame, values: list[str]) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=value_colour(name), marker=value_code(name)["marker"], markersize=3) for name in values
    ]
    labels = list(values)
    if "f_train" in df.columns:
        handles.append(Line2D([], [], color="#444444", linewidth=0.6, linestyle=(0, (2, 2))))
        labels.append("train split")
    if "random_mean" in df.columns:
        handles.append(Patch(color=GREY, alpha=0.35, linewidth=0))
        labels.append("random circuits: mean to best")
    sheet.legend(handles, labels, right=len(labels) > 4)


def _random(ax: Axes, df: pd.DataFrame) -> None:
    """The band of random circuits of the same sizes."""
    if "random_mean" not in df.columns or df["random_mean"].notna().sum() == 0:
        return
    by_size = df.groupby("size")
    mean = by_size["random_mean"].mean()
    best = by_size["random_max"].max() if "random_max" in df.columns else mean
    ax.fill_between(mean.index, mean, best, color=GREY, alpha=0.35, linewidth=0, zorder=1)
    ax.plot(mean.index, mean, color=GREY, linewidth=0.9, zorder=1)


def _reaches(rows: pd.DataFrame, goal: float, size: int) -> bool:
    return bool((rows.loc[rows["size"] <= size, "f"] >= goal).any())
