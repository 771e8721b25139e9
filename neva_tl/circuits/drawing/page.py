"""The interactive picture of a circuit: a fragment for reports and notebooks, and a page of its own.

Python writes the data as an inert JSON block, a static SVG for browsers without scripts, and the tables; our script
(templates/circuit.js.j2) draws the rest and inserts all text as text nodes, never as HTML.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import networkx as nx
from markupsafe import Markup

from neva_tl.circuits.drawing import wording
from neva_tl.circuits.drawing.draw_layered import layered_svg
from neva_tl.circuits.drawing.layered import DRAWN, MOST_EDGES, NARROW, OTHER, WIDE, Plan, colour_of, layered
from neva_tl.circuits.drawing.text import visible
from neva_tl.core.formatting import signed
from neva_tl.plots.pages import asset, environment, json_text

NUMBERS = ("attributed", "total", "measured", "lo", "hi")
STATISTICS = ("g", "lo", "hi", "p", "q", "share", "score", "write", "mean_plus", "mean_minus")
#: Maximum numbers of written tokens, contexts, and tokens per context that a node shows.
MOST_WRITES, MOST_CONTEXTS, MOST_TOKENS = 24, 8, 400
EDGE_ROWS = 250


@runtime_checkable
class GraphAndMeta(Protocol):
    """The attributes of a `CircuitGraph` that pages read; its module imports this one."""

    @property
    def graph(self) -> nx.DiGraph:
        """Nodes and edges."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Origin of the graph."""


def assets() -> tuple[Markup, Markup]:
    """(style sheet, script); a page needs them once, whatever its number of pictures."""
    return asset("circuit.css.j2"), Markup(asset("sort.js.j2") + asset("circuit.js.j2"))


def figure_data(graph: GraphAndMeta) -> dict[str, Any]:
    """Plain data from which the script draws.

    Args:
        graph: A `CircuitGraph`.

    Returns:
        `nodes` (dicts), `edges` (`[source, target, kind, attributed, total, measured, lo, hi]`, ends by index), `plans`
        (positions by node index, for wide and narrow pages), `most` (maximum number of edges drawn at first), `scaled`
        (whether attributions are in logits).
    """
    complete = _with_values(graph.graph)
    names = list(complete.nodes)
    index = {name: number for number, name in enumerate(names)}
    edges = [
        [index[a], index[b], edge["kind"], *(wording.number(edge.get(name)) for name in NUMBERS)]
        for a, b, edge in complete.edges(data=True)
        if edge.get("kind") in (*DRAWN, "belongs")
    ]
    return {
        "nodes": [_node(name, data) for name, data in complete.nodes(data=True)],
        "edges": edges,
        "plans": {
            name: _plan(layered(complete, width=width), index) for name, width in (("wide", WIDE), ("narrow", NARROW))
        },
        "most": MOST_EDGES,
        "scaled": graph.meta.get("n_examples") != 0,
    }


def _with_values(graph: nx.DiGraph) -> nx.DiGraph:
    """Copy of the graph with a node for every value that a token names."""
    out = graph.copy()
    for name, data in graph.nodes(data=True):
        if data.get("kind") == "token":
            value = str(data.get("value", ""))
            out.add_node(f"value:{value}", kind="value", value=value)
            out.add_edge(name, f"value:{value}", kind="belongs")
    return out


def _plan(plan: Plan, index: Mapping[str, int]) -> dict[str, Any]:
    return {
        "width": plan.width,
        "height": plan.height,
        "slant": plan.slant,
        "hidden": plan.hidden,
        "rows": [[label, y] for label, y in plan.rows],
        "spots": [[index[s.id], round(s.x, 1), round(s.y, 1), s.label, round(s.span, 1)] for s in plan.spots],
    }


def _node(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(data.get("kind"))
    selected = bool(data.get("selected", True))
    value = str(data.get("value", ""))
    out: dict[str, Any] = {"kind": kind, "colour": OTHER}
    if kind == "neuron":
        out |= {
            "name": f"L{data['layer']}.{data['neuron']}",
            "layer": data["layer"],
            "selected": selected,
            "values": [text for text in str(data.get("values", "")).split(",") if text],
            "colour": colour_of(value) if selected else OTHER,
            "writes": _pairs(data.get("writes")),
            "contexts": _contexts(data.get("contexts")),
        }
        out |= {key: number for key in STATISTICS if (number := wording.number(data.get(key))) is not None}
    elif kind == "head":
        out |= {"name": f"L{data['layer']}.H{data['head']}", "layer": data["layer"]}
        if (share := wording.number(data.get("share"))) is not None:
            out["share"] = share
    elif kind == "token":
        out |= {
            "name": str(data.get("text", "")),
            "value": value,
            "colour": colour_of(value),
            "token": data.get("token"),
        }
        out |= {"word": str(data.get("word", "")), "multi": bool(data.get("multi", False))}
    elif kind == "input":
        out |= {"name": str(data.get("text", "")), "count": data.get("count")}
    else:
        out |= {"name": value or name, "colour": colour_of(value)}
    return out


def _as_list(raw: Any) -> list[Any]:
    """A list from a list or from JSON text; an empty list for anything else."""
    try:
        items = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        return []
    return list(items) if isinstance(items, list | tuple) else []


def _pairs(raw: Any) -> list[list[Any]]:
    return [
        [str(item[0]), wording.number(item[1])]
        for item in _as_list(raw)[:MOST_WRITES]
        if isinstance(item, list | tuple) and len(item) == 2
    ]


def _contexts(raw: Any) -> list[dict[str, Any]]:
    out = []
    for item in _as_list(raw)[:MOST_CONTEXTS]:
        if not isinstance(item, Mapping):
            continue
        tokens, acts = item.get("tokens"), item.get("activations")
        if not isinstance(tokens, list) or not isinstance(acts, list) or len(tokens) != len(acts):
            continue
        numbers = [float(f"{wording.number(x) or 0.0:.3g}") for x in acts[:MOST_TOKENS]]
        out.append({"tokens": [str(t) for t in tokens[:MOST_TOKENS]], "activations": numbers, "at": item.get("at")})
    return out


def edge_table(graph: GraphAndMeta, most: int = EDGE_ROWS) -> dict[str, Any]:
    """The strongest edges as cells of the template's sortable table, by strength within their kind.

    Args:
        graph: A `CircuitGraph`.
        most: Maximum number of rows.

    Returns:
        `columns`, `rows`, and `count` (number of edges in the graph that have an effect).
    """
    strength = {(tie.source, tie.target): tie.strength for tie in layered(graph.graph).ties}
    ordered = sorted(strength, key=lambda ends: -strength[ends])
    columns_with_data = [
        name for name in ("attributed", "total", "measured") if any(_has(graph, e, name) for e in ordered)
    ]
    rows = []
    for a, b in ordered[:most]:
        edge = graph.graph.edges[a, b]
        cells = [{"text": text, "sort": text} for text in (_title(graph, a), _title(graph, b), str(edge["kind"]))]
        for name in columns_with_data:
            raw = wording.number(edge.get(name))
            text = signed(raw)
            low, high = wording.number(edge.get("lo")), wording.number(edge.get("hi"))
            if name == "measured" and raw is not None and low is not None and high is not None:
                text += f" [{signed(low)}, {signed(high)}]"
            cells.append({"text": text, "sort": "" if raw is None else repr(raw)})
        rows.append(cells)
    titles = {
        "attributed": "direct path: logits to tokens, log-odds (nats) to values, pre-activation to neurons",
        "total": "attribution patching: all paths",
        "measured": "change of the target when the source alone is ablated to its mean, 95 % interval",
    }
    columns = [{"label": label, "text": True, "title": ""} for label in ("source", "target", "kind")]
    columns += [{"label": name, "text": False, "title": titles[name]} for name in columns_with_data]
    return {"columns": columns, "rows": rows, "count": len(ordered)}


def _has(graph: GraphAndMeta, ends: tuple[str, str], name: str) -> bool:
    return wording.number(graph.graph.edges[ends].get(name)) is not None


def _title(graph: GraphAndMeta, name: str) -> str:
    node = _node(name, graph.graph.nodes[name])
    if node["kind"] in ("token", "input"):
        owner = f" ({node['value']})" if node.get("value") else ""
        return f"{visible(node['name'], 24)}{owner}"
    return visible(str(node["name"]), 40)


def picture(graph: GraphAndMeta) -> Markup:
    """The interactive picture as a fragment; the page must include `assets()` once, with the script after it.

    Args:
        graph: A `CircuitGraph`.

    Raises:
        InputError: The circuit has neither neurons nor heads.
    """
    meta = graph.meta
    return Markup(
        environment()
        .get_template("circuit.html.j2")
        .module.picture(  # type: ignore[attr-defined]
            json_text(figure_data(graph)),
            Markup(layered_svg(layered(graph.graph))),
            wording.sentence(meta),
            Markup(wording.curve_svg(meta)),
        )
    )


def origin(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Origin of the circuit as (name, text), without the entries that the page shows elsewhere.

    Args:
        meta: Meta of the circuit.
    """
    return [
        (str(k).replace("_", " "), _as_text(item))
        for k, item in meta.items()
        if k not in ("faithfulness", "curve", "heads", "neurons", "effort")
    ]


def _as_text(item: Any) -> str:
    if isinstance(item, list | tuple):
        return ", ".join(map(str, item))
    return f"{item:.4g}" if isinstance(item, float) and math.isfinite(item) else str(item)


def title_of(graph: GraphAndMeta) -> str:
    """Title such as `Circuit of benevolence in demo`.

    Args:
        graph: A `CircuitGraph`.
    """
    values = graph.meta.get("values") or ()
    names = ", ".join(dict.fromkeys(map(str, values if isinstance(values, list | tuple) else [values])))
    return f"Circuit of {names or 'values'} in {graph.meta.get('model', 'a model')}"


def page(graph: GraphAndMeta) -> str:
    """A self-contained page that makes no network requests: picture, faithfulness, origin, edges.

    Args:
        graph: A `CircuitGraph`.

    Raises:
        InputError: The circuit has neither neurons nor heads.
    """
    css, js = assets()
    return (
        environment()
        .get_template("circuit_page.html.j2")
        .render(
            title=title_of(graph),
            picture=picture(graph),
            made=origin(graph.meta),
            table=edge_table(graph),
            css=css,
            js=js,
        )
    )


def fragment(graph: GraphAndMeta) -> str:
    """Picture, style sheet and script together, for a notebook's cell.

    Args:
        graph: A `CircuitGraph`.
    """
    css, js = assets()
    return f"<style>{css}</style>{picture(graph)}<script>{js}</script>"
