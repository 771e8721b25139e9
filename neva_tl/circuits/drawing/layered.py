"""Places of a circuit's nodes, bottom to top: input tokens, per layer heads under neurons, value tokens, values.

One plan feeds the interactive page, the SVG and the matplotlib figure, so that all three show the same thing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neva_tl.circuits.drawing.text import visible
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.plots.style import value_colour

#: Layout units: SVG user units and CSS pixels at scale 1. The narrow plan is a phone's.
WIDE, NARROW = 780.0, 360.0
#: Edges drawn at first, of all kinds together.
MOST_EDGES = 90
OTHER = "#838a94"
#: Kinds of edge that are drawn; `belongs` shows as a token's place under its value.
DRAWN = ("attributed", "value", "feeds", "reads")


@dataclass(frozen=True)
class Spot:
    """A node's place; `label` is short and safe to print. `span` is half the width of a value's bar, 0 elsewhere."""

    id: str
    kind: str
    x: float
    y: float
    label: str
    colour: str
    span: float = 0.0


@dataclass(frozen=True)
class Tie:
    """A drawn kind of edge: `effect` in its own unit, `strength` = |effect| over the largest of its kind."""

    source: str
    target: str
    kind: str
    effect: float
    strength: float


@dataclass(frozen=True)
class Plan:
    """Everything a drawing needs.

    Attributes:
        rows: (label, y) at the left edge.
        ties: every edge with an effect, strongest last.
        cut: strength from which edges are drawn at first (a multiple of .01).
        slant: degrees by which labels of tokens, values and inputs are turned (-90 or -50).
        hidden: tokens left out for want of room.
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
        there = {spot.id for spot in self.spots}
        return tuple(t for t in self.ties if t.strength >= self.cut and t.source in there and t.target in there)


def edge_effect(edge: Mapping[str, Any]) -> float | None:
    """What the source does to the target: attributed, else total, else minus the change when it is ablated."""
    for name, sign in (("attributed", 1.0), ("total", 1.0), ("measured", -1.0)):
        number = edge.get(name)
        if isinstance(number, int | float) and math.isfinite(number):
            return sign * float(number)
    return None


def colour_of(value: Any) -> str:
    """A value's colour, or grey for a name that is none of the ten."""
    return value_colour(str(value)) if value in VALUES else OTHER


def layered(graph: Any, *, width: float = WIDE, most_edges: int = MOST_EDGES) -> Plan:
    """Place every node of a circuit.

    Args:
        graph: networkx DiGraph of a `CircuitGraph`; heads and inputs may be missing.
        width: of the picture in layout units; below 560 labels stand upright and fewer tokens find room.
        most_edges: edges drawn at first (all of them travel to the interactive page).

    Raises:
        InputError: no node that can be placed.
    """
    ties = _ties(graph)
    by_kind: dict[str, list[str]] = defaultdict(list)
    for name, data in graph.nodes(data=True):
        by_kind[str(data.get("kind"))].append(name)
    if not by_kind["neuron"] and not by_kind["head"]:
        raise InputError("the circuit holds no neurons and no heads: nothing to draw")
    narrow = width < 560
    left, right = (34.0, 6.0) if narrow else (64.0, 40.0)
    span = width - left - right
    names = _values(graph, by_kind)
    kept, hidden = _tokens(graph, by_kind["token"], ties, int(span / 15.5 - 0.6 * len(names)))
    spots: list[Spot] = []
    groups = {name: [t for t in kept if str(graph.nodes[t].get("value")) == name] for name in names}
    sizes = {name: max(1, len(found)) for name, found in groups.items()}
    unit = span / max(1.0, sum(sizes.values()) + 0.6 * max(0, len(names) - 1))
    slant = -90 if unit < 22 or narrow else -50
    value_y = 96.0 if slant == -90 else 78.0
    token_y = value_y + (104.0 if slant == -90 else 88.0)
    x, xs = left, {}
    for name in names:
        wide = sizes[name] * unit
        node = f"value:{name}"
        xs[node] = x + wide / 2
        spots.append(Spot(node, "value", x + wide / 2, value_y, visible(name, 15), colour_of(name), wide / 2 - 1))
        for place, token in enumerate(groups[name]):
            xs[token] = x + (place + 0.5) * wide / sizes[name]
            label = visible(str(graph.nodes[token].get("text", "")), 13)
            spots.append(Spot(token, "token", xs[token], token_y, label, colour_of(name)))
        x += wide + 0.6 * unit
    rows: list[tuple[str, float]] = [("values", value_y), ("tokens", token_y)] if not narrow else []
    y = token_y + (64 if narrow else 84)
    layers = sorted(
        {_whole(graph.nodes[n], "layer") for kind in ("neuron", "head") for n in by_kind[kind]}, reverse=True
    )
    room = max(1, int(span / 31))
    for layer in layers:
        start = y
        for kind in ("neuron", "head"):
            mine = [n for n in by_kind[kind] if _whole(graph.nodes[n], "layer") == layer]
            mine.sort(key=lambda n: (_centre(n, ties, xs, left + span / 2), _whole(graph.nodes[n], kind)))
            for begin in range(0, len(mine), room):
                part = mine[begin : begin + room]
                for place, node in enumerate(part):
                    data = graph.nodes[node]
                    xs[node] = left + (place + 0.5) * span / len(part)
                    number = _whole(data, kind)
                    label = f"H{number}" if kind == "head" else str(number)
                    value = data.get("value") if data.get("selected", True) else ""
                    spots.append(Spot(node, kind, xs[node], y, label, OTHER if kind == "head" else colour_of(value)))
                y += 40
        rows.append((f"L{layer}" if narrow else f"layer {layer}", (start + y - 40) / 2))
        y += 10
    inputs = by_kind["input"]
    if inputs:
        y += 10
        room = max(1, int(span / 17))
        if not narrow:
            rows.append(("input", y))
        for begin in range(0, len(inputs), room):
            part = inputs[begin : begin + room]
            for place, node in enumerate(part):
                where = left + (place + 0.5) * span / len(part)
                label = visible(str(graph.nodes[node].get("text", "")), 13)
                spots.append(Spot(node, "input", where, y, label, OTHER))
            y += 90 if slant == -90 else 74
    return Plan(width, y, tuple(spots), ties, tuple(rows), _cut(ties, most_edges), slant, hidden)


def _whole(data: Mapping[str, Any], name: str) -> int:
    try:
        return int(data[name])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"a {data.get('kind', 'node')} of the circuit has no whole number {name!r}") from error


def _ties(graph: Any) -> tuple[Tie, ...]:
    found = []
    for source, target, edge in graph.edges(data=True):
        effect = edge_effect(edge)
        if edge.get("kind") in DRAWN and effect is not None:
            found.append((source, target, str(edge["kind"]), effect))
    largest: dict[str, float] = defaultdict(float)
    for *_, kind, effect in found:
        largest[kind] = max(largest[kind], abs(effect))
    ties = [Tie(a, b, kind, effect, abs(effect) / (largest[kind] or 1.0)) for a, b, kind, effect in found]
    return tuple(sorted(ties, key=lambda tie: tie.strength))


def _cut(ties: tuple[Tie, ...], most: int) -> float:
    """The smallest whole percentage that leaves at most `most` edges."""
    if len(ties) <= most:
        return 0.0
    return min(1.0, (math.floor(100 * ties[-most - 1].strength) + 1) / 100)


def _values(graph: Any, by_kind: Mapping[str, list[str]]) -> list[str]:
    """Values with a node or a token, in circle order, others after them."""
    found = [str(graph.nodes[n].get("value")) for kind in ("value", "token") for n in by_kind[kind]]
    found = list(dict.fromkeys(found))
    return [name for name in VALUES if name in found] + [name for name in found if name not in VALUES]


def _tokens(graph: Any, tokens: list[str], ties: tuple[Tie, ...], room: int) -> tuple[list[str], int]:
    """The tokens that find room, the strongest first to stay."""
    weight: dict[str, float] = defaultdict(float)
    for tie in ties:
        weight[tie.target] += tie.strength
    best = sorted(tokens, key=lambda token: -weight[token])[: max(1, room)]
    keep = set(best)
    kept = [token for token in tokens if token in keep]
    kept.sort(key=lambda token: str(graph.nodes[token].get("text", "")))
    return kept, len(tokens) - len(kept)


def _centre(node: str, ties: tuple[Tie, ...], xs: Mapping[str, float], middle: float) -> float:
    """Mean place of what a node acts on, by strength; fewer lines cross so."""
    mine = [(xs[tie.target], tie.strength) for tie in ties if tie.source == node and tie.target in xs]
    total = sum(weight for _, weight in mine)
    return sum(x * weight for x, weight in mine) / total if total else middle
