"""Circuit of one value at the width of a column: its neurons, and the tokens that they raise or lower."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from neva_tl.core.errors import InputError
from neva_tl.plots.canvas import MUTED, Look, Sheet, small
from neva_tl.plots.lens import cell_text
from neva_tl.plots.palette import ink
from neva_tl.plots.style import NEGATIVE, POSITIVE, literal, need, present_values, styled, value_colour

COLUMNS = ("value", "layer", "neuron", "token", "token_value", "attribution")


@styled
def circuit_plot(
    circuit: pd.DataFrame, *, value: str | None = None, neurons: int = 8, tokens: int = 12, **look: Unpack[Look]
) -> Figure:
    """Draw the strongest links from a value's neurons to tokens.

    Neurons are on the left, higher layers further up. Tokens are on the right (`·`: a leading space), grouped by the value
    that they belong to. A link is as wide as its share of the largest attribution; red raises the token's logit, blue lowers
    it.

    Args:
        circuit: table `circuit`: value, layer, neuron, token, token_value, attribution.
        value: the value; by default the first in the order of the theory.
        neurons: number of neurons, those of the largest summed |attribution|.
        tokens: number of tokens, those of the largest summed |attribution| from these neurons.
        **look: See `Look`.

    Returns:
        The figure.

    Raises:
        InputError: A column is missing, the table is empty, or it has no such value.

    Example:
        >>> links = pd.DataFrame({"value": "power", "layer": 2, "neuron": [7, 9], "token": ["rule", "share"]})
        >>> links = links.assign(token_value=["power", "benevolence"], attribution=[0.8, -0.3])
        >>> figure = nv.plots.circuit_plot(links)
    """
    df = need(circuit, COLUMNS, "circuit")
    values = present_values(df["value"])
    if value is not None and value not in values:
        raise InputError(f"table 'circuit' has no value {value!r}: it has {', '.join(values)}")
    value = value or values[0]
    links = _strongest(df[df["value"] == value], neurons, tokens)
    sheet = Sheet(0.75 + 0.19 * max(links["name"].nunique(), links["token"].nunique()))
    draw_links(sheet.ax, links, value)
    sheet.title(f"Circuit of {literal(value)}", loc="left", room=0.1)
    sheet.note("red: raises the token's logit · blue, dashed: lowers it · width: attribution")
    return sheet.figure


def _strongest(rows: pd.DataFrame, neurons: int, tokens: int) -> pd.DataFrame:
    """Return the links between the strongest neurons and the tokens that these move most."""
    rows = rows.assign(
        name=[f"L{int(layer)}.{int(neuron)}" for layer, neuron in zip(rows["layer"], rows["neuron"], strict=True)],
        size=rows["attribution"].abs(),
    )
    for column, most in (("name", neurons), ("token", tokens)):
        best = rows.groupby(column)["size"].sum().nlargest(most).index
        rows = rows[rows[column].isin(best)]
    return rows


def draw_links(ax: Axes, links: pd.DataFrame, value: str) -> None:
    """Draw neurons, tokens and their links on axes.

    Args:
        ax: the axes; their frame is hidden.
        links: the table's rows of the value, with `name` and `size`.
        value: the value.
    """
    ax.set_axis_off()
    by_layer = links.drop_duplicates("name").sort_values(["layer", "neuron"])
    # opposed tokens (of other values) lie together, the value's own on top
    order = links.assign(other=links["token_value"].astype(str) != value)
    by_value = order.drop_duplicates("token").sort_values(
        ["other", "token_value", "size"], ascending=[False, False, True]
    )
    left = dict(zip(by_layer["name"], _heights(len(by_layer)), strict=True))
    right = dict(zip(by_value["token"], _heights(len(by_value)), strict=True))
    top = float(links["size"].max()) or 1.0
    for row in links.sort_values("size").to_dict("records"):
        a, b, share = left[row["name"]], right[row["token"]], row["size"] / top
        curve = Curve([(0.3, a), (0.43, a), (0.43, b), (0.56, b)], [Curve.MOVETO] + [Curve.CURVE4] * 3)
        raises = row["attribution"] > 0
        ax.add_patch(
            PathPatch(
                curve,
                fill=False,
                edgecolor=POSITIVE if raises else NEGATIVE,
                linestyle="-" if raises else (0, (3, 1.5)),
                linewidth=0.3 + 2.2 * share,
                alpha=0.25 + 0.6 * share,
                capstyle="butt",
            )
        )
    for name, y in left.items():
        ax.plot(0.3, y, "o", color=value_colour(value), markersize=4, zorder=3)
        ax.text(0.275, y, name, ha="right", va="center", fontsize=small())
    token_values = dict(zip(by_value["token"], by_value["token_value"].astype(str), strict=True))
    for token, y in right.items():
        colour = value_colour(token_values[token])
        ax.plot(0.56, y, "s", color=colour, markersize=3.5, zorder=3)
        ax.text(0.585, y, cell_text(str(token)), ha="left", va="center", fontsize=small(), parse_math=False)
    for name, rows in by_value.groupby("token_value"):
        heights = [right[token] for token in rows["token"]]
        colour = value_colour(str(name))
        ax.text(
            1,
            np.mean(heights),
            literal(str(name)),
            va="center",
            ha="right",
            fontsize=small(),
            color=ink(colour),
            style="italic",
        )  # type: ignore[arg-type]
    for layer, rows in by_layer.groupby("layer"):
        heights = [left[name] for name in rows["name"]]
        ax.text(0.0, np.mean(heights), f"layer {layer}", va="center", fontsize=small(), color=MUTED)  # type: ignore[arg-type]
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.06, 1.06)


def _heights(count: int) -> np.ndarray:
    return np.linspace(0, 1, count) if count > 1 else np.array([0.5])
