"""CircuitGraph: the graph, as a table, as a picture, as files."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.models import Model

if TYPE_CHECKING:
    from neva_tl.circuits.search.faithfulness import Faithfulness
    from neva_tl.circuits.search.nodes import Nodes
    from neva_tl.circuits.search.task import ValueTask

COLUMNS = ("value", "layer", "neuron", "token", "token_value", "attribution", "measured")
SUFFIXES = (".json", ".graphml", ".html", ".svg", ".pdf", ".png")


@dataclass(frozen=True, eq=False)
class CircuitGraph:
    """Neurons, tokens and values as typed nodes, signed effects as edges.

    Attributes:
        graph: networkx DiGraph. Nodes have `kind` (input | head | neuron | token | value); edges have `kind`:
            `attributed` (neuron -> token), `value` (neuron or head -> value: `attributed`, and `measured`, `lo`, `hi`
            where measured), `belongs` (token -> value), `feeds` (input, head or neuron -> neuron or head: `attributed`,
            `total`, `measured`, `lo`, `hi`), `reads` (input -> head).
        meta: how it was made (model, scale of the final norm, examples).
    """

    graph: Any
    meta: Mapping[str, Any] = field(default_factory=dict)

    def nodes(self, kind: str) -> list[str]:
        """Names of the nodes of one kind."""
        return [name for name, data in self.graph.nodes(data=True) if data["kind"] == kind]

    def members(self, model: Model) -> Nodes:
        """The circuit's heads and neurons as masks over a model: those it was found with, weak edges pruned or not."""
        from neva_tl.circuits.search.nodes import Nodes

        if "heads" in self.meta and "neurons" in self.meta:
            return Nodes.of(model, *(map(_place, self.meta[kind]) for kind in ("heads", "neurons")))

        data = [item for _, item in self.graph.nodes(data=True)]
        heads = [(item["layer"], item["head"]) for item in data if item["kind"] == "head"]
        neurons = [(item["layer"], item["neuron"]) for item in data if item["kind"] == "neuron"]
        return Nodes.of(model, heads, neurons)

    def faithfulness(self, model: Model, task: ValueTask, **options: Any) -> Faithfulness:
        """How much of a task's value log-odds is kept when everything outside the graph is mean-ablated, beside random
        graphs of its size (see `circuits.faithfulness`).
        """
        from neva_tl.circuits.search.faithfulness import faithfulness

        return faithfulness(model, task, self.members(model), **options)

    def completeness(self, model: Model, task: ValueTask, **options: Any) -> float:
        """How much of a task's value log-odds is lost when the graph itself is mean-ablated (1: all of it)."""
        return self.faithfulness(model, task, **{"n_random": 0, **options}).completeness

    def prune(self, share: float = 0.9) -> CircuitGraph:
        """The graph without its weakest edges, and without nodes that are left with none.

        Kinds are: to tokens, into neurons, into heads, to the graph's own value (edges to other values go). Of each the
        strongest are kept until they hold this share of the kind's sum, by |attributed|, which is the edge's own path;
        into heads, which have no exact direct path, by |measured| where it is known.

        Raises:
            InputError: a share outside (0, 1].
        """
        if not 0 < share <= 1:
            raise InputError(f"a share must lie in (0, 1], not {share}")
        own = {f"value:{name}" for name in self.meta.get("values", ())[:1]}
        kept: list[tuple[str, str]] = []
        pools: dict[str, list[tuple[float, str, str]]] = {}
        for a, b, data in self.graph.edges(data=True):
            into = self.graph.nodes[b]["kind"]
            if data["kind"] == "belongs" or (into == "value" and own and b not in own):
                continue
            size = abs(data.get("attributed", 0.0))
            pools.setdefault(into, []).append((abs(data.get("measured", size)) if into == "head" else size, a, b))
        for edges in pools.values():
            edges.sort(key=lambda edge: -edge[0])
            goal, held = share * sum(size for size, _, _ in edges), 0.0
            for size, a, b in edges:
                if held >= goal * (1 - 1e-12):
                    break
                kept.append((a, b))
                held += size
        tokens = {b for _, b in kept if self.graph.nodes[b]["kind"] == "token"}
        kept += [(a, b) for a, b, data in self.graph.edges(data=True) if data["kind"] == "belongs" and a in tokens]
        small = self.graph.edge_subgraph(kept).copy()
        return CircuitGraph(
            small, {**self.meta, "pruned": f"edges that hold {share:g} of the total effect of their kind"}
        )

    def table(self) -> pd.DataFrame:
        """One row per (value, neuron, token): value whose neuron it is, layer, neuron, token (text), token_value,
        attribution, and `measured` (the neuron's measured effect on `token_value`, the same for all its tokens; NaN
        where not measured).
        """
        rows = []
        for source, target, edge in self.graph.edges(data=True):
            if edge["kind"] != "attributed":
                continue
            neuron, token = self.graph.nodes[source], self.graph.nodes[target]
            to_value = self.graph.edges.get((source, f"value:{token['value']}"), {})
            for name in neuron["values"].split(",") if neuron["values"] else self.meta.get("values", [""])[:1]:
                rows.append(
                    (
                        name,
                        neuron["layer"],
                        neuron["neuron"],
                        token["text"],
                        token["value"],
                        edge["attributed"],
                        to_value.get("measured", np.nan),
                    )
                )
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def value_table(self) -> pd.DataFrame:
        """One row per (neuron, value): mean attribution over all of the value's tokens, and the measured effect."""
        rows = [
            {
                "value": self.graph.nodes[source]["value"],
                "layer": self.graph.nodes[source]["layer"],
                "neuron": self.graph.nodes[source]["neuron"],
                "to_value": self.graph.nodes[target]["value"],
                "attribution": edge["attributed"],
                "measured": edge.get("measured", np.nan),
            }
            for source, target, edge in self.graph.edges(data=True)
            if edge["kind"] == "value"
        ]
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """What was found, in a few lines: the task, how faithful the graph is, its strongest nodes."""
        from neva_tl.circuits.drawing.wording import sentence

        lines = [str(self.meta[key]) for key in ("task", "selected") if key in self.meta]
        if told := sentence(self.meta):
            lines.append(told)
        carried = [(data["share"], name) for name, data in self.graph.nodes(data=True) if "share" in data]
        if carried:
            strongest = sorted(carried, key=lambda item: -abs(item[0]))[:8]
            lines.append(f"Strongest: {', '.join(f'{name} {share:+.2f}' for share, name in strongest)}")
        return "\n".join(lines)

    def svg(self, **options: Any) -> str:
        """The picture as an SVG element with hover titles: with heads or inputs the layered one (`draw_layered.layered_svg`),
        else neurons beside tokens (`draw.circuit_svg`, which takes the options).
        """
        if self._layered(options):
            from neva_tl.circuits.drawing.draw_layered import layered_svg
            from neva_tl.circuits.drawing.layered import layered

            return layered_svg(layered(self.graph), standalone=bool(options.get("standalone", False)))
        from neva_tl.circuits.drawing.draw import circuit_svg

        return circuit_svg(self.table(), **options)

    def show(self, **options: Any) -> Any:
        """The picture as a matplotlib figure (see `svg`)."""
        if self._layered(options):
            from neva_tl.circuits.drawing.draw_layered import layered_figure
            from neva_tl.circuits.drawing.layered import layered

            return layered_figure(layered(self.graph))
        from neva_tl.circuits.drawing.draw import circuit_figure

        return circuit_figure(self.table(), **options)

    def _layered(self, options: Mapping[str, Any]) -> bool:
        return not set(options) - {"standalone"} and bool(self.nodes("head") or self.nodes("input"))

    def to_json(self) -> dict[str, Any]:
        """Plain data: meta, nodes, edges; numbers to six digits."""
        return {
            "schema": 1,
            "kind": "circuit",
            "meta": dict(self.meta),
            "nodes": [{"id": name, **_short(data)} for name, data in self.graph.nodes(data=True)],
            "edges": [{"source": a, "target": b, **_short(data)} for a, b, data in self.graph.edges(data=True)],
        }

    @classmethod
    def load(cls, path: str | Path) -> CircuitGraph:
        """Read what `save("x.json")` wrote.

        Raises:
            InputError: the file is missing or is no circuit.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["kind"] != "circuit":
                raise KeyError("kind")
            graph: Any = nx.DiGraph()
            for node in data["nodes"]:
                graph.add_node(node["id"], **{k: v for k, v in node.items() if k != "id"})
            for edge in data["edges"]:
                graph.add_edge(
                    edge["source"], edge["target"], **{k: v for k, v in edge.items() if k not in ("source", "target")}
                )
            return cls(graph=graph, meta=data["meta"])
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(f"{path} is no circuit written by neva_tl ({error})") from error

    def save(self, path: str | Path) -> Path:
        """Write the graph (`.json`, `.graphml`) or its picture (`.html`, `.svg`, `.pdf`, `.png`), to a temporary name
        first.

        The HTML is one page without any request to the network; token text is escaped everywhere.

        Raises:
            InputError: another suffix.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(f"cannot save a circuit as {path.name!r}: use one of {', '.join(SUFFIXES)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix in (".pdf", ".png"):
            from neva_tl.plots.style import save_figure

            return save_figure(self.show(), path.with_suffix(""), (suffix[1:],))[0]
        data = {
            ".json": lambda: json.dumps(self.to_json(), indent=1, ensure_ascii=False).encode(),
            ".graphml": self._graphml,
            ".svg": lambda: self.svg(standalone=True).encode(),
            # a lone surrogate, which a tokenizer can produce, is no valid UTF-8
            ".html": lambda: self._page().encode("utf-8", errors="replace"),
        }[suffix]()
        with atomic_write(path) as file:
            file.write_bytes(data)
        return path

    def _graphml(self) -> bytes:
        clean: Any = nx.DiGraph(**{k: _scalar(v) for k, v in self.meta.items()})
        for name, data in self.graph.nodes(data=True):
            clean.add_node(name, **{k: _scalar(v) for k, v in data.items()})
        for a, b, data in self.graph.edges(data=True):
            clean.add_edge(a, b, **{k: _scalar(v) for k, v in data.items()})
        out = io.BytesIO()
        nx.write_graphml(clean, out)
        return out.getvalue()

    def _page(self) -> str:
        from neva_tl.circuits.drawing.page import page

        return page(self)

    def __repr__(self) -> str:
        count = {kind: len(self.nodes(kind)) for kind in ("neuron", "token", "value")}
        return f"CircuitGraph({count['neuron']} neurons, {count['token']} tokens, {count['value']} values)"

    def _repr_html_(self) -> str:
        from neva_tl.circuits.drawing.page import fragment

        return f"<p>{html.escape(repr(self))}</p>{fragment(self)}"


def _place(name: str) -> tuple[int, int]:
    """`L3.H1` and `L3.127` as (layer, index)."""
    layer, index = name.removeprefix("L").split(".")
    return int(layer), int(index.removeprefix("H"))


def _short(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(f"{item:.6g}") if isinstance(item, float) else item for key, item in data.items()}


def _scalar(thing: Any) -> Any:
    """What GraphML can hold; control characters, which XML cannot, are shown as escapes."""
    if isinstance(thing, bool | int | float):
        return thing
    text = thing if isinstance(thing, str) else json.dumps(thing)
    return "".join(
        c
        if c in "\t\n\r" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF))
        else f"\\u{ord(c):04x}"
        for c in text
    )
