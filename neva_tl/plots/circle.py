"""Leakage as arrows between the values on the circle of their theory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Unpack

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import Look, Sheet, own_axes, page_width, wrap
from neva_tl.plots.canvas import widest as widest_label
from neva_tl.plots.palette import ink
from neva_tl.plots.style import (
    NEGATIVE,
    POSITIVE,
    condition_label,
    conditions,
    literal,
    need,
    of_condition,
    styled,
    value_colour,
)
from neva_tl.plots.value_names import theory_in

#: Inches of the narrowest and of the widest panel.
NARROWEST, WIDEST = 2.3, 3.3
COLUMNS = ("method", "steered", "measured", "d", "lo", "hi")


@styled
def circle_plot(
    df: pd.DataFrame, *, columns: int = 3, most: int = 30, all_edges: bool = False, **look: Unpack[Look]
) -> Figure:
    """Draw an arrow from the steered to every measured value, as wide as |D|.

    Red arrows rise, blue ones fall; the area of a disc is the gain. There is one panel per (method, gate, target gain)
    and one scale for all panels.

    Args:
        df: table `leakage`: method, gate, target_gain, steered, measured, d, lo, hi.
        columns: panels side by side.
        most: number of arrows in a panel, strongest first; the caption states it.
        all_edges: draw also changes whose interval contains 0 (hidden by default).
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, the table is empty, or the theory of its values has no circle.

    Example:
        >>> figure = nv.plots.circle_plot(nv.plots.read_table(run, "leakage"))
    """
    df = need(df, COLUMNS, "leakage")
    theory = theory_in([*df["measured"], *df["steered"]])
    if not theory.has_circle:
        raise InputError(f"the theory {theory.name} has no circle: draw leakage_heatmap instead of circle_plot")
    panels = conditions(df)
    width, size = page_width(), float(mpl.rcParams["axes.titlesize"])
    across = len(panels) if own_axes() else min(columns, len(panels), max(1, int(width / NARROWEST)))
    down = math.ceil(len(panels) / across)
    panel = min(width / across, WIDEST)
    titles = [wrap(literal(condition_label(*one)), panel - 0.1, size, "bold") for one in panels]
    lines = max(title.count("\n") for title in titles)
    half = _half_width(theory.names, panel)
    sheet = Sheet(0.65 + down * (0.33 + 0.14 * lines + 1.28 / half * panel), down, across, used=len(panels))
    off = df[df["steered"] != df["measured"]]
    gains = df[df["steered"] == df["measured"]]
    widest = float(off["d"].abs().max()) if len(off) else 1.0
    largest = float(gains["d"].max()) if len(gains) else 1.0
    for ax, one, title in zip(sheet.axes, panels, titles, strict=True):
        ax.set_axis_off()
        _panel(ax, of_condition(df, one), widest or 1.0, largest or 1.0, most, all_edges, half)
        ax.set_title(title)
    hidden = "" if all_edges else ", 95 % interval without 0"
    sheet.legend(
        [Line2D([], [], color=POSITIVE, linewidth=2), Line2D([], [], color=NEGATIVE, linewidth=2)],
        ["measured value rises", "falls"],
    )
    sheet.note(f"at most {most} strongest changes a panel{hidden} · area of a disc: gain")
    return sheet.figure


def _half_width(names: Iterable[str], width: float) -> float:
    """Half the width of a panel in radii of its circle: the widest name has room on both sides."""
    room = min(2 * widest_label(names, float(mpl.rcParams["ytick.labelsize"]), "bold") / width, 0.7)
    return 1.3 / (1 - room)


def position(name: str) -> tuple[float, float]:
    """Return a value's point on the unit circle.

    Angle 0 is at the top, the others follow clockwise; values without angles are at equal steps in their order.
    """
    angle = math.radians(90.0 - angle_of(name))
    return math.cos(angle), math.sin(angle)


def angle_of(name: str) -> float:
    """Return a value's angle in degrees, at equal steps where its theory has no circle."""
    theory = theory_in([name])
    angle = theory.value(name).angle
    return 360.0 * theory.index(name) / len(theory) if angle is None else angle


def _panel(
    ax: Axes, rows: pd.DataFrame, widest: float, largest: float, most: int, all_edges: bool, half: float
) -> None:
    names = theory_in([*rows["measured"], *rows["steered"]]).names
    name_size = float(mpl.rcParams["ytick.labelsize"])
    ax.set_xlim(-half, half)
    ax.set_ylim(-1.28, 1.28)
    ax.set_aspect("equal")
    edges = rows[(rows["steered"] != rows["measured"]) & rows["d"].notna()]
    if not all_edges:
        edges = edges[(edges["lo"] > 0) | (edges["hi"] < 0)]
    edges = edges.reindex(edges["d"].abs().sort_values().index).tail(most)
    # Falls are drawn first, so that rises (the leakage) lie on top.
    for row in pd.concat([edges[edges["d"] < 0], edges[edges["d"] >= 0]]).itertuples():
        d, steered, measured = float(row.d), str(row.steered), str(row.measured)  # type: ignore[arg-type]
        strength = abs(d) / widest
        ax.add_patch(
            FancyArrowPatch(
                position(steered),
                position(measured),
                connectionstyle="arc3,rad=0.18",
                arrowstyle="-|>",
                mutation_scale=4 + 4 * strength,
                shrinkA=7,
                shrinkB=7,
                linewidth=0.3 + (2.8 if d > 0 else 1.6) * strength,
                color=POSITIVE if d > 0 else NEGATIVE,
                alpha=0.3 + 0.6 * strength if d > 0 else 0.12 + 0.4 * strength,
            )
        )
    gain = rows[rows["steered"] == rows["measured"]].set_index("steered")["d"]
    for name in names:
        x, y = position(name)
        raw = float(gain.get(name, np.nan))
        size = 20 + 150 * max(raw, 0.0) / largest if np.isfinite(raw) and largest > 0 else 20
        ax.scatter([x], [y], s=size, color=value_colour(name), zorder=3, edgecolors="white", linewidths=0.8)
        side = "center" if abs(x) < 0.1 else ("left" if x > 0 else "right")
        ax.text(
            1.17 * x,
            1.19 * y,
            name,
            ha=side,
            va="center",
            fontsize=name_size,
            color=ink(value_colour(name)),
            fontweight="bold",
        )
