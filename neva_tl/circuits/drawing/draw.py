"""The picture of a circuit's table: neurons by layer on the left, value tokens on the right.

One layout serves the matplotlib figure and the SVG, so that both show the same picture. Large tables are thinned to the
strongest neurons and edges; a note in the picture gives the numbers drawn and the totals.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from neva_tl.circuits.drawing.layered import colour_of
from neva_tl.circuits.drawing.text import visible
from neva_tl.core.errors import InputError
from neva_tl.plots.style import NEGATIVE, POSITIVE, need, new_figure, present_values, short, styled, value_colour

NEEDED = ("value", "layer", "neuron", "token", "token_value", "attribution")
#: Layout units: SVG user units, and 1/90 inch in the figure.
ROW, WIDTH, TOP, LEFT, RIGHT = 19.0, 640.0, 34.0, 190.0, 430.0
#: Extra space between the tokens of two values, in rows.
GAP = 0.6


@dataclass(frozen=True)
class Mark:
    """A neuron or a token in the picture."""

    key: tuple[Any, ...]
    label: str
    value: str
    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Link:
    """An edge in the picture; `strength` is |attribution| over the largest drawn."""

    source: Mark
    target: Mark
    attribution: float
    strength: float


@dataclass(frozen=True)
class Layout:
    """Positions and labels of a picture.

    Attributes:
        neurons: Marks on the left, from the top.
        tokens: Marks on the right, from the top.
        links: Edges, weakest first.
        layers: (layer, y of its label).
        groups: (value, y of its label).
        height: Height in layout units.
        note: Numbers of edges and neurons drawn, and the largest attribution.
    """

    neurons: tuple[Mark, ...]
    tokens: tuple[Mark, ...]
    links: tuple[Link, ...]
    layers: tuple[tuple[int, float], ...]
    groups: tuple[tuple[str, float], ...]
    height: float
    note: str


def layout(table: pd.DataFrame, *, value: str | None = None, most_neurons: int = 14, most_links: int = 70) -> Layout:
    """Positions of the strongest neurons and edges of one value's circuit.

    Args:
        table: As `CircuitGraph.table()` or the study's table `circuit`.
        value: Value whose neurons are drawn; needed only when the table holds several values (default: all of them).
        most_neurons: Maximum number of neurons, by the sum of |attribution| over their edges.
        most_links: Maximum number of edges: the strongest of each drawn neuron first, then by |attribution|.

    Raises:
        InputError: Columns are missing, or the table has no edges.
    """
    edges = _edges(table, value)
    total = edges["attribution"].abs().groupby([edges["layer"], edges["neuron"]]).sum().sort_values(ascending=False)
    # first layer at the bottom, as the residual stream is drawn
    neurons = sorted(total.index[:most_neurons], key=lambda pair: (-pair[0], pair[1]))
    drawn = _strongest(edges, set(neurons), most_links)
    # tokens in the order of the theory from the top
    order = present_values(table["token_value"])
    tokens = sorted(
        set(zip(drawn["token_value"], drawn["token"], strict=True)), key=lambda pair: (order.index(pair[0]), pair[1])
    )
    token_rows = len(tokens) + GAP * sum(a[0] != b[0] for a, b in pairwise(tokens))
    rows = max(len(neurons), token_rows)
    neuron_marks = _neuron_marks(neurons, drawn, total, ROW * rows / len(neurons))
    token_marks = _token_marks(tokens, ROW * rows / token_rows)
    largest = float(drawn["attribution"].abs().max()) or 1.0
    links = tuple(
        Link(
            neuron_marks[r["layer"], r["neuron"]],
            token_marks[r["token_value"], r["token"]],
            r["attribution"],
            abs(r["attribution"]) / largest,
        )
        for r in drawn.sort_values("attribution", key=np.abs).to_dict("records")
    )
    return Layout(
        neurons=tuple(neuron_marks.values()),
        tokens=tuple(token_marks.values()),
        links=links,
        layers=_layer_heights(neuron_marks),
        groups=_group_heights(token_marks),
        height=TOP + ROW * rows + 16,
        note=f"{len(links)} of {len(edges)} edges, {len(neurons)} of {len(total)} neurons; widest: {short(largest)}",
    )


def _edges(table: pd.DataFrame, value: str | None) -> pd.DataFrame:
    """The edges of one value (None: of all), each once."""
    table = need(table, NEEDED, "circuit")
    if value is not None:
        table = table[table["value"] == value]
    # a neuron of two values would draw each edge twice
    edges = table.drop_duplicates(["layer", "neuron", "token", "token_value"]).reset_index(drop=True)
    if not len(edges):
        raise InputError(f"the circuit table holds no edges{f' for {value}' if value else ''}")
    return edges


def _strongest(edges: pd.DataFrame, neurons: set[Any], most_links: int) -> pd.DataFrame:
    """The strongest edges of these neurons; each neuron's own strongest edge is among them."""
    inside = edges[[pair in neurons for pair in zip(edges["layer"], edges["neuron"], strict=True)]]
    size = inside["attribution"].abs()
    order = size.sort_values(ascending=False, kind="stable").index
    per_neuron = size.groupby([inside["layer"], inside["neuron"]]).idxmax()
    return inside.loc[list(dict.fromkeys([*per_neuron, *order]))[: max(most_links, len(per_neuron))]]


def _neuron_marks(neurons: list[Any], drawn: pd.DataFrame, total: pd.Series, step: float) -> dict[Any, Mark]:
    """Marks of the neurons from top to bottom, `step` apart, by (layer, neuron)."""
    owner = {(r.layer, r.neuron): str(r.value) for r in drawn.itertuples()}
    return {
        pair: Mark(
            pair,
            f"L{pair[0]}.{pair[1]}",
            owner[pair],
            LEFT,
            TOP + step * (row + 0.5),
            f"neuron {pair[1]} of layer {pair[0]} ({owner[pair]}): sum of |attribution| {total[pair]:.3g}",
        )
        for row, pair in enumerate(neurons)
    }


def _token_marks(tokens: list[tuple[Any, Any]], unit: float) -> dict[Any, Mark]:
    """Marks of the tokens from top to bottom, with a gap between values, by (value, token)."""
    marks = {}
    y = TOP + unit * 0.5
    for row, (value, token) in enumerate(tokens):
        if row and tokens[row - 1][0] != value:
            y += GAP * unit
        title = f"token {visible(token)} ({value})"
        marks[value, token] = Mark((value, token), visible(token), value, RIGHT, y, title)
        y += unit
    return marks


def _layer_heights(marks: Mapping[Any, Mark]) -> tuple[tuple[int, float], ...]:
    """(layer, mean y of its neurons), last layer first."""
    layers = sorted({layer for layer, _ in marks}, reverse=True)
    return tuple((layer, float(np.mean([m.y for pair, m in marks.items() if pair[0] == layer]))) for layer in layers)


def _group_heights(marks: Mapping[Any, Mark]) -> tuple[tuple[str, float], ...]:
    """(value, mean y of its tokens), in the order of the theory."""
    heights: dict[str, list[float]] = {}
    for mark in marks.values():
        heights.setdefault(mark.value, []).append(mark.y)
    return tuple((name, float(np.mean(ys))) for name, ys in heights.items())


def circuit_svg(
    table: pd.DataFrame,
    *,
    value: str | None = None,
    most_neurons: int = 14,
    most_links: int = 70,
    standalone: bool = False,
) -> str:
    """The picture as one `<svg>` element.

    Red edges raise the token, blue ones lower it, width is |attribution|; hover titles give the numbers. Text takes the
    page's colour; all text is escaped.

    Args:
        table: See `layout`.
        value: See `layout`.
        most_neurons: See `layout`.
        most_links: See `layout`.
        standalone: Whether to add an XML namespace and a white background, for a file of its own.
    """
    plan = layout(table, value=value, most_neurons=most_neurons, most_links=most_links)
    head = 'xmlns="http://www.w3.org/2000/svg" style="background:#fff;color:#222" ' if standalone else ""
    out = [
        f'<svg {head}class="circuit" viewBox="0 0 {WIDTH:.0f} {plan.height:.0f}" width="{WIDTH:.0f}" '
        f'height="{plan.height:.0f}" role="img" font-family="system-ui, sans-serif" font-size="11" '
        f'aria-label="{html.escape(plan.note)}">'
    ]
    for x, anchor, text in ((LEFT, "end", "neurons, by layer"), (RIGHT, "start", "value tokens")):
        out.append(_text(x, 16.0, text, anchor, weight="bold"))
    for link in plan.links:
        a, b = link.source, link.target
        middle = (a.x + b.x) / 2
        kind, colour = ("up", POSITIVE) if link.attribution > 0 else ("down", NEGATIVE)
        out.append(
            f'<path class="{kind}" d="M{a.x + 6:.1f} {a.y:.1f}'
            f'C{middle:.1f} {a.y:.1f} {middle:.1f} {b.y:.1f} {b.x - 4:.1f} {b.y:.1f}" '
            f'fill="none" stroke="{colour}" stroke-width="{0.4 + 4.6 * link.strength:.2f}" '
            f'stroke-opacity="{0.25 + 0.6 * link.strength:.2f}"><title>'
            f"{html.escape(f'{a.label} → {b.label} ({b.value}): {link.attribution:+.3g}')}</title></path>"
        )
    for mark in plan.neurons:
        out.append(
            f'<g><title>{html.escape(mark.title)}</title><circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="5" '
            f'fill="{colour_of(mark.value)}"/>{_text(mark.x - 10, mark.y + 3.6, mark.label, "end", size=10.5)}</g>'
        )
    for mark in plan.tokens:
        text = _text(mark.x + 8, mark.y + 3.6, mark.label, "start", colour=value_colour(mark.value), size=10.5)
        out.append(
            f'<g><title>{html.escape(mark.title)}</title><rect x="{mark.x - 3:.1f}" y="{mark.y - 4:.1f}" width="7" '
            f'height="8" rx="2" fill="{value_colour(mark.value)}"/>{text}</g>'
        )
    for layer, y in plan.layers:
        out.append(_text(LEFT - 100, y + 3.6, f"layer {layer}", "end", opacity=0.65))
    for name, y in plan.groups:
        out.append(_text(RIGHT + 118, y + 3.6, name, "start", colour=value_colour(name), weight="bold"))
    return "".join(out) + "</svg>"


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str,
    *,
    colour: str = "currentColor",
    size: float = 11.0,
    weight: str = "normal",
    opacity: float = 1.0,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight}" opacity="{opacity}">{html.escape(text)}</text>'
    )


@styled
def circuit_figure(
    table: pd.DataFrame, *, value: str | None = None, most_neurons: int = 14, most_links: int = 70
) -> Figure:
    """The same picture as a matplotlib figure.

    Args:
        table: See `layout`.
        value: See `layout`.
        most_neurons: See `layout`.
        most_links: See `layout`.
    """
    plan = layout(table, value=value, most_neurons=most_neurons, most_links=most_links)
    figure = new_figure(WIDTH / 90, (plan.height + 22) / 90)
    ax = figure.subplots()
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(plan.height + 14, 0)
    ax.set_axis_off()
    for link in plan.links:
        a, b = link.source, link.target
        middle = (a.x + b.x) / 2
        curve = Curve(
            [(a.x + 6, a.y), (middle, a.y), (middle, b.y), (b.x - 4, b.y)], [Curve.MOVETO] + [Curve.CURVE4] * 3
        )
        ax.add_patch(
            PathPatch(
                curve,
                fill=False,
                edgecolor=POSITIVE if link.attribution > 0 else NEGATIVE,
                linewidth=0.3 + 3.6 * link.strength,
                alpha=0.25 + 0.6 * link.strength,
                capstyle="butt",
            )
        )
    for mark in plan.neurons:
        ax.plot(mark.x, mark.y, "o", color=colour_of(mark.value), markersize=6)
        ax.text(mark.x - 11, mark.y, mark.label, ha="right", va="center", fontsize=7)
    for mark in plan.tokens:
        # parse_math off: a dollar sign would start mathtext
        ax.plot(mark.x, mark.y, "s", color=value_colour(mark.value), markersize=5)
        ax.text(
            mark.x + 8, mark.y, mark.label, va="center", fontsize=7, color=value_colour(mark.value), parse_math=False
        )
    for layer, y in plan.layers:
        ax.text(LEFT - 100, y, f"layer {layer}", ha="right", va="center", fontsize=7.5, color="#777777")
    for name, y in plan.groups:
        ax.text(RIGHT + 118, y, name, va="center", fontsize=8, fontweight="bold", color=value_colour(name))
    ax.text(LEFT, 14, "neurons, by layer", ha="right", fontsize=8, fontweight="bold")
    ax.text(RIGHT, 14, "value tokens", ha="left", fontsize=8, fontweight="bold")
    ax.text(8, plan.height + 10, f"red raises the token, blue lowers it · {plan.note}", fontsize=6.5, color="#666666")
    return figure
