"""Positions of a circuit's nodes, bottom to top: input tokens, per layer heads under neurons, value tokens, values.

One plan serves the interactive page, the SVG and the matplotlib figure, so that all three show the same picture.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from neva_tl.circuits.drawing.text import visible
from neva_tl.core.errors import InputError
from neva_tl.plots.style import present_values, value_colour
from neva_tl.plots.value_names import NO_VALUE

#: Layout units: SVG user units and CSS pixels at scale 1. The narrow plan is for phones.
WIDE, NARROW = 780.0, 360.0
#: Space between the bars of two values, in tokens.
GAP = 0.6
#: Maximum number of edges drawn at first, of all kinds together.
MOST_EDGES = 90
OTHER = "#838a94"
#: Kinds of edge that are drawn; `belongs` shows as a token's position under its value.
DRAWN = ("attributed", "value", "feeds", "reads")


@dataclass(frozen=True)
class Spot:
    """Position of a node.

    Attributes:
        id: The node's name in the graph.
        kind: The node's kind.
        x: Centre.
        y: Centre.
        label: Short printable text.
        colour: CSS colour.
        span: Half the width of a value's bar; 0 for other kinds.
    """

    id: str
    kind: str
    x: float
    y: float
    label: str
    colour: str
    span: float = 0.0


@dataclass(frozen=True)
class Tie:
    """An edge of a drawn kind: `effect` in its own unit, `strength` = |effect| over the largest of its kind."""

    source: str
    target: str
    kind: str
    effect: float
    strength: float


@dataclass(frozen=True)
class Plan:
    """Positions and labels of a picture.

    Attributes:
        width: Width in layout units.
        height: Height in layout units.
        spots: Positions of the nodes.
        ties: Every edge with an effect, strongest last.
        rows: (label, y) at the left edge.
        cut: Minimum strength of the edges drawn at first (a multiple of .01).
        slant: Rotation of the labels of tokens, values and inputs, in degrees (-90 or -50).
        hidden: Number of tokens omitted for lack of space.
    """

    width: float
    height: float
    spots: tuple[Spot, ...]
    ties: tuple[Tie, ...]
    rows: tuple[tuple[str, float], ...]
    cut: float
    slant: int
    hidden: int

    @property
    def shown(self) -> tuple[Tie, ...]:
        """Ties that are drawn at first, weakest first."""
        drawn = {spot.id for spot in self.spots}
        return tuple(t for t in self.ties if t.strength >= self.cut and {t.source, t.target} <= drawn)


def edge_effect(edge: Mapping[str, Any]) -> float | None:
    """Effect of the source on the target: attributed, else total, else minus the change under ablation.

    Args:
        edge: Attributes of the edge.

    Returns:
        The effect, or None where the edge has no finite number.
    """
    for name, sign in (("attributed", 1.0), ("total", 1.0), ("measured", -1.0)):
        number = edge.get(name)
        if isinstance(number, int | float) and math.isfinite(number):
            return sign * float(number)
    return None


def colour_of(value: Any) -> str:
    """Colour of a value; grey where there is none.

    Args:
        value: The name.
    """
    return OTHER if str(value) in NO_VALUE else value_colour(str(value))


def layered(graph: nx.DiGraph, *, width: float = WIDE, most_edges: int = MOST_EDGES) -> Plan:
    """Position every node of a circuit.

    Args:
        graph: The graph of a `CircuitGraph`; heads and inputs may be missing.
        width: Width of the picture in layout units; below 560 labels are vertical and fewer tokens fit.
        most_edges: Maximum number of edges drawn at first (the interactive page has all of them).

    Raises:
        InputError: The circuit has neither neurons nor heads.
    """
    ties = _ties(graph)
    by_kind: dict[str, list[str]] = defaultdict(list)
    for name, data in graph.nodes(data=True):
        by_kind[str(data.get("kind"))].append(name)
    if not by_kind["neuron"] and not by_kind["head"]:
        raise InputError("the circuit holds no neurons and no heads: nothing to draw")
    canvas = _Canvas(graph, ties, width < 560, width)
    names = _values(graph, by_kind)
    room = int(canvas.span / 15.5 - GAP * len(names))
    tokens, hidden = _visible_tokens(graph, by_kind["token"], ties, room)
    slant, y = _place_values(canvas, names, tokens)
    y = _place_layers(canvas, by_kind, y)
    y = _place_inputs(canvas, by_kind["input"], y, 90.0 if slant == -90 else 74.0)
    return Plan(width, y, tuple(canvas.spots), ties, tuple(canvas.rows), _cut(ties, most_edges), slant, hidden)


@dataclass(eq=False)
class _Canvas:
    """A picture in progress: positions so far, x of every node that edges may lead to, and row labels."""

    graph: nx.DiGraph
    ties: tuple[Tie, ...]
    narrow: bool
    width: float
    spots: list[Spot] = field(default_factory=list)
    xs: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, float]] = field(default_factory=list)

    @property
    def left(self) -> float:
        """The left edge of the picture; row labels go to the left of it."""
        return 34.0 if self.narrow else 64.0

    @property
    def span(self) -> float:
        """Width between the left and the right edge."""
        return self.width - self.left - (6.0 if self.narrow else 40.0)

    def text(self, node: str) -> str:
        """A token's label."""
        return visible(str(self.graph.nodes[node].get("text", "")), 13)

    def lines(self, nodes: list[str], unit: float) -> Iterator[list[tuple[str, float]]]:
        """Yield nodes with their x, line by line, at least `unit` apart."""
        room = max(1, int(self.span / unit))
        for begin in range(0, len(nodes), room):
            line = nodes[begin : begin + room]
            yield [(node, self.left + (i + 0.5) * self.span / len(line)) for i, node in enumerate(line)]


def _place_values(canvas: _Canvas, names: list[str], tokens: list[str]) -> tuple[int, float]:
    """Position values as bars above their tokens; returns the slant of labels and the y of the next row."""
    groups = {name: [t for t in tokens if str(canvas.graph.nodes[t].get("value")) == name] for name in names}
    sizes = {name: max(1, len(group)) for name, group in groups.items()}
    unit = canvas.span / max(1.0, sum(sizes.values()) + GAP * max(0, len(names) - 1))
    slant = -90 if unit < 22 or canvas.narrow else -50
    value_y = 96.0 if slant == -90 else 78.0
    token_y = value_y + (104.0 if slant == -90 else 88.0)
    x = canvas.left
    for name in names:
        bar = sizes[name] * unit
        node, centre, colour = f"value:{name}", x + bar / 2, colour_of(name)
        canvas.xs[node] = centre
        canvas.spots.append(Spot(node, "value", centre, value_y, visible(name, 15), colour, bar / 2 - 1))
        for index, token in enumerate(groups[name]):
            canvas.xs[token] = x + (index + 0.5) * bar / sizes[name]
            canvas.spots.append(Spot(token, "token", canvas.xs[token], token_y, canvas.text(token), colour))
        x += bar + GAP * unit
    if not canvas.narrow:
        canvas.rows += [("values", value_y), ("tokens", token_y)]
    return slant, token_y + (64.0 if canvas.narrow else 84.0)


def _place_layers(canvas: _Canvas, by_kind: Mapping[str, list[str]], y: float) -> float:
    """Position neurons and, below them, heads, last layer first; returns the y of the next row."""
    nodes = canvas.graph.nodes
    layers = {_integer(nodes[n], "layer") for kind in ("neuron", "head") for n in by_kind[kind]}
    for layer in sorted(layers, reverse=True):
        start = y
        for kind in ("neuron", "head"):
            members = [n for n in by_kind[kind] if _integer(nodes[n], "layer") == layer]
            for line in canvas.lines(_sorted_by_targets(canvas, members, kind), 31.0):
                for node, x in line:
                    canvas.xs[node] = x
                    canvas.spots.append(_node_spot(node, nodes[node], kind, x, y))
                y += 40
        canvas.rows.append((f"L{layer}" if canvas.narrow else f"layer {layer}", (start + y - 40) / 2))
        y += 10
    return y


def _sorted_by_targets(canvas: _Canvas, members: list[str], kind: str) -> list[str]:
    """Nodes of a layer from left to right, by the mean x of their targets."""
    middle = canvas.left + canvas.span / 2

    def key(node: str) -> tuple[float, int]:
        return _centre(node, canvas.ties, canvas.xs, middle), _integer(canvas.graph.nodes[node], kind)

    return sorted(members, key=key)


def _node_spot(node: str, data: Mapping[str, Any], kind: str, x: float, y: float) -> Spot:
    """Spot of a head or neuron; neurons that were not selected are grey, as heads are."""
    number = _integer(data, kind)
    if kind == "head":
        return Spot(node, kind, x, y, f"H{number}", OTHER)
    value = data.get("value") if data.get("selected", True) else ""
    return Spot(node, kind, x, y, str(number), colour_of(value))


def _place_inputs(canvas: _Canvas, inputs: list[str], y: float, line_height: float) -> float:
    """Position input tokens at the bottom; returns the height of the picture."""
    if not inputs:
        return y
    y += 10
    if not canvas.narrow:
        canvas.rows.append(("input", y))
    for line in canvas.lines(inputs, 17.0):
        canvas.spots += [Spot(node, "input", x, y, canvas.text(node), OTHER) for node, x in line]
        y += line_height
    return y


def _integer(data: Mapping[str, Any], name: str) -> int:
    try:
        return int(data[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a {data.get('kind', 'node')} of the circuit has no integer {name!r}") from error


def _ties(graph: nx.DiGraph) -> tuple[Tie, ...]:
    """Edges with an effect, weakest first."""
    edges = []
    for source, target, edge in graph.edges(data=True):
        effect = edge_effect(edge)
        if edge.get("kind") in DRAWN and effect is not None:
            edges.append((source, target, str(edge["kind"]), effect))
    largest: dict[str, float] = defaultdict(float)
    for *_, kind, effect in edges:
        largest[kind] = max(largest[kind], abs(effect))
    ties = [Tie(a, b, kind, effect, abs(effect) / (largest[kind] or 1.0)) for a, b, kind, effect in edges]
    return tuple(sorted(ties, key=lambda tie: tie.strength))


def _cut(ties: tuple[Tie, ...], most: int) -> float:
    """The smallest whole percentage that leaves at most `most` edges."""
    if len(ties) <= most:
        return 0.0
    return min(1.0, (math.floor(100 * ties[-most - 1].strength) + 1) / 100)


def _values(graph: nx.DiGraph, by_kind: Mapping[str, list[str]]) -> list[str]:
    """Values with a node or a token, in the order of their theory."""
    named = [str(graph.nodes[n].get("value")) for kind in ("value", "token") for n in by_kind[kind]]
    return present_values(named)


def _visible_tokens(graph: nx.DiGraph, tokens: list[str], ties: tuple[Tie, ...], room: int) -> tuple[list[str], int]:
    """The strongest tokens that fit, by text, and the number of the others."""
    weight: dict[str, float] = defaultdict(float)
    for tie in ties:
        weight[tie.target] += tie.strength
    best = set(sorted(tokens, key=lambda token: -weight[token])[: max(1, room)])
    fitting = [token for token in tokens if token in best]
    fitting.sort(key=lambda token: str(graph.nodes[token].get("text", "")))
    return fitting, len(tokens) - len(fitting)


def _centre(node: str, ties: tuple[Tie, ...], xs: Mapping[str, float], middle: float) -> float:
    """Mean x of a node's targets, weighted by strength; sorting by it makes fewer lines cross."""
    targets = [(xs[tie.target], tie.strength) for tie in ties if tie.source == node and tie.target in xs]
    total = sum(weight for _, weight in targets)
    return sum(x * weight for x, weight in targets) / total if total else middle
