"""A learned value graph in the circle's layout, only its stable edges."""

from __future__ import annotations

from typing import Unpack

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from neva_tl.plots.canvas import MUTED, Look, Sheet, page_width, widest
from neva_tl.plots.circle import position
from neva_tl.plots.palette import ink
from neva_tl.plots.style import NEGATIVE, POSITIVE, literal, need, present_values, styled, value_colour

COLUMNS = ("a", "b", "adjacent", "r", "drawn", "direction")
STYLES = {"->": "-|>", "<-": "<|-", "-": "-"}


@styled
def value_graph_plot(df: pd.DataFrame, *, title: str = "", **look: Unpack[Look]) -> Figure:
    """Draw the stable edges between values on the circle.

    An edge is as wide as the share of bootstrap draws that have it; red where the scores rise together, blue where one
    falls as the other rises. It has an arrowhead only where the direction is stable too.

    Args:
        df: a, b, adjacent, r, drawn, direction (`ValueGraph.df`).
        title: text above the circle.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, or the table is empty.

    Example:
        >>> edges = pd.DataFrame({"a": ["power"], "b": ["security"], "adjacent": 0.9, "r": 0.4})
        >>> figure = nv.plots.value_graph_plot(edges.assign(drawn=True, direction="->"))
    """
    df = need(df, COLUMNS, "value graph")
    values = present_values([*df["a"], *df["b"]])
    size = float(mpl.rcParams["legend.fontsize"])
    room = min(0.7, 2 * widest(values, size, "bold") / page_width())
    sheet = Sheet(min(4.0, 0.9 * page_width() + 0.6))
    ax = sheet.ax
    ax.set_axis_off()
    half = 1.3 / (1 - room)
    ax.set_xlim(-half, half)
    ax.set_ylim(-1.35, 1.35)
    ax.set_aspect("equal")
    edges = df[df["drawn"].astype(bool)]
    for row in edges.to_dict("records"):
        ax.add_patch(
            FancyArrowPatch(
                position(str(row["a"])),
                position(str(row["b"])),
                connectionstyle="arc3,rad=0.12",
                arrowstyle=STYLES[str(row["direction"])],
                mutation_scale=11,
                shrinkA=7,
                shrinkB=7,
                linewidth=0.6 + 1.8 * float(row["adjacent"]),
                color=POSITIVE if float(row["r"]) >= 0 else NEGATIVE,
                alpha=0.3 + 0.6 * float(row["adjacent"]),
            )
        )
    for name in values:
        x, y = position(name)
        ax.scatter([x], [y], s=46, color=value_colour(name), zorder=3, edgecolors="white", linewidths=0.8)
        side = "center" if abs(x) < 0.1 else ("left" if x > 0 else "right")
        label = {"ha": side, "va": "center", "fontsize": size, "color": ink(value_colour(name)), "fontweight": "bold"}
        ax.text(1.15 * x, 1.17 * y, name, **label)  # type: ignore[arg-type]
    if title:
        sheet.title(literal(title), room=0.2)
    handles = [Line2D([], [], color=POSITIVE, linewidth=2), Line2D([], [], color=NEGATIVE, linewidth=2)]
    labels = ["rise together", "one falls as the other rises"]
    sheet.legend(handles, labels)
    sheet.note("width: share of bootstrap draws · arrow: stable direction")
    if not len(edges):
        ax.text(0, 0, "no stable edge", ha="center", va="center", color=MUTED)
    return sheet.figure
