"""CircuitGraph: a circuit as a graph, a table, a picture and files."""

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

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.files import atomic_write
from neva_tl.core.ledger import check
from neva_tl.models import Model

if TYPE_CHECKING:
    from neva_tl.circuits.search.faithfulness import Faithfulness
    from neva_tl.circuits.search.nodes import Nodes
    from neva_tl.circuits.search.task import ValueTask

COLUMNS = ("value", "layer", "neuron", "token", "token_value", "attribution", "measured")
#: End of the name of an attribution graph's file.
NEURONPEDIA = ".neuronpedia.json"
SUFFIXES = (".json", ".graphml", ".html", ".svg", ".pdf", ".png")


@dataclass(frozen=True, eq=False)
class CircuitGraph:
    """Neurons, tokens and values as typed nodes, signed effects as edges.

    Attributes:
        graph: networkx DiGraph. Nodes have `kind` (input | head | neuron | token | value); edges have `kind`:
            `attributed` (neuron -> token), `value` (neuron or head -> value: `attributed`, and `measured`, `lo`, `hi`
            where measured), `belongs` (token -> value), `feeds` (input, head or neuron -> neuron or head: `attributed`,
            `total`, `measured`, `lo`, `hi`), `reads` (input -> head).
        meta: Origin of the graph (model, scale of the final norm, examples).

    Example:
        >>> graph = nv.circuit(model, neurons.head(5), values=["benevolence", "power"], top_tokens=2)
        >>> graph.table().columns.tolist()
        ['value', 'layer', 'neuron', 'token', 'token_value', 'attribution', 'measured']
        >>> nv.CircuitGraph.load(graph.save("circuit.json")).nodes("value")
        ['value:benevolence', 'value:power']
    """

    graph: nx.DiGraph
    meta: Mapping[str, Any] = field(default_factory=dict)

    @check_arguments
    def nodes(self, kind: str) -> list[str]:
        """Names of the nodes of one kind.

        Args:
            kind: input | head | neuron | token | value.
        """
        return [name for name, data in self.graph.nodes(data=True) if data["kind"] == kind]

    @check_arguments
    def members(self, model: Model) -> Nodes:
        """Heads and neurons of the circuit as masks over a model; pruning edges does not change them.

        Args:
            model: The model of the circuit.
        """
        from neva_tl.circuits.search.nodes import Nodes

        if "heads" in self.meta and "neurons" in self.meta:
            return Nodes.of(model, *(map(_layer_and_index, self.meta[kind]) for kind in ("heads", "neurons")))

        data = [item for _, item in self.graph.nodes(data=True)]
        heads = [(item["layer"], item["head"]) for item in data if item["kind"] == "head"]
        neurons = [(item["layer"], item["neuron"]) for item in data if item["kind"] == "neuron"]
        return Nodes.of(model, heads, neurons)

    @check_arguments
    def faithfulness(self, model: Model, task: ValueTask, **options: Any) -> Faithfulness:
        """Share of a task's effect that remains when everything outside the graph is mean-ablated.

        Args:
            model: The model of the circuit.
            task: The task, preferably on texts that the search did not use.
            options: Options of `circuits.faithfulness`, such as the number of random graphs.
        """
        from neva_tl.circuits.search.faithfulness import faithfulness

        return faithfulness(model, task, self.members(model), **options)

    @check_arguments
    def completeness(self, model: Model, task: ValueTask, **options: Any) -> float:
        """Share of a task's effect that is lost when the graph itself is mean-ablated (1: all of it).

        Args:
            model: The model of the circuit.
            task: See `faithfulness`.
            options: Options of `circuits.faithfulness`.
        """
        return self.faithfulness(model, task, **{"n_random": 0, **options}).completeness

    @check_arguments
    def prune(self, share: float = 0.9) -> CircuitGraph:
        """The graph without its weakest edges, and without nodes that lose all edges.

        Kinds are: to tokens, into neurons, into heads, to the graph's own value (edges to other values go). Of each kind the
        strongest edges stay until they reach this share of the kind's sum, by |attributed|, the effect of the edge's own
        path; into heads, which have no exact direct path, by |measured| where it exists.

        Args:
            share: Share of the total effect, in (0, 1].

        Raises:
            InputError: The share is outside (0, 1].

        Example:
            >>> graph = nv.circuit(model, neurons.head(5), values=["benevolence", "power"], top_tokens=2)
            >>> len(graph.prune(0.5).table()) < len(graph.table())
            True
        """
        if not 0 < share <= 1:
            raise InputError(f"a share must lie in (0, 1], not {share}")
        target_values = {f"value:{name}" for name in self.meta.get("values", ())[:1]}
        strong: list[tuple[str, str]] = []
        pools: dict[str, list[tuple[float, str, str]]] = {}
        for a, b, data in self.graph.edges(data=True):
            into = self.graph.nodes[b]["kind"]
            if data["kind"] == "belongs" or (into == "value" and target_values and b not in target_values):
                continue
            size = abs(data.get("attributed", 0.0))
            pools.setdefault(into, []).append((abs(data.get("measured", size)) if into == "head" else size, a, b))
        for edges in pools.values():
            edges.sort(key=lambda edge: -edge[0])
            goal, covered = share * sum(size for size, _, _ in edges), 0.0
            for size, a, b in edges:
                if covered >= goal * (1 - 1e-12):
                    break
                strong.append((a, b))
                covered += size
        tokens = {b for _, b in strong if self.graph.nodes[b]["kind"] == "token"}
        strong += [(a, b) for a, b, data in self.graph.edges(data=True) if data["kind"] == "belongs" and a in tokens]
        small = self.graph.edge_subgraph(strong).copy()
        return CircuitGraph(
            small, {**self.meta, "pruned": f"edges that hold {share:g} of the total effect of their kind"}
        )

    def table(self) -> pd.DataFrame:
        """One row per (value, neuron, token).

        Returns:
            Columns value (for which the neuron was selected), layer, neuron, token (text), token_value, attribution, and
            measured (the neuron's measured effect on `token_value`, the same for all its tokens; NaN where not measured).
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
        """The task, the graph's faithfulness and its strongest nodes, in a few lines."""
        from neva_tl.circuits.drawing.wording import sentence

        lines = [str(self.meta[key]) for key in ("task", "selected") if key in self.meta]
        if text := sentence(self.meta):
            lines.append(text)
        shares = [(data["share"], name) for name, data in self.graph.nodes(data=True) if "share" in data]
        if shares:
            strongest = sorted(shares, key=lambda item: -abs(item[0]))[:8]
            lines.append(f"Strongest: {', '.join(f'{name} {share:+.2f}' for share, name in strongest)}")
        return "\n".join(lines)

    def svg(self, **options: Any) -> str:
        """The picture as an SVG element with hover titles.

        Args:
            options: `standalone`, or options of `draw.circuit_svg`. With heads or inputs and no option of `circuit_svg`, the
                picture is the layered one (`draw_layered.layered_svg`), else neurons on the left and tokens on the right.
        """
        if self._layered(options):
            from neva_tl.circuits.drawing.draw_layered import layered_svg
            from neva_tl.circuits.drawing.layered import layered

            return layered_svg(layered(self.graph), standalone=bool(options.get("standalone", False)))
        from neva_tl.circuits.drawing.draw import circuit_svg

        return circuit_svg(self.table(), **options)

    def show(self, **options: Any) -> Any:
        """The picture as a matplotlib figure.

        Args:
            options: See `svg`.
        """
        if self._layered(options):
            from neva_tl.circuits.drawing.draw_layered import layered_figure
            from neva_tl.circuits.drawing.layered import layered

            return layered_figure(layered(self.graph))
        from neva_tl.circuits.drawing.draw import circuit_figure

        return circuit_figure(self.table(), **options)

    def _layered(self, options: Mapping[str, Any]) -> bool:
        return not set(options) - {"standalone"} and bool(self.nodes("head") or self.nodes("input"))

    def to_json(self) -> dict[str, Any]:
        """Plain data: meta, nodes, edges; floats with six significant digits."""
        return {
            "schema": 1,
            "kind": "circuit",
            "meta": dict(self.meta),
            "nodes": [{"id": name, **_six_digits(data)} for name, data in self.graph.nodes(data=True)],
            "edges": [{"source": a, "target": b, **_six_digits(data)} for a, b, data in self.graph.edges(data=True)],
        }

    @classmethod
    @check_arguments
    def load(cls, path: str | Path) -> CircuitGraph:
        """Read a file of `save("x.json")`.

        Args:
            path: The JSON file.

        Raises:
            InputError: The file is missing, was changed since its run wrote it, or is not a circuit.
        """
        check(Path(path))
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["kind"] != "circuit":
                raise KeyError("kind")
            graph = nx.DiGraph()
            for node in data["nodes"]:
                graph.add_node(node["id"], **{k: v for k, v in node.items() if k != "id"})
            for edge in data["edges"]:
                graph.add_edge(
                    edge["source"], edge["target"], **{k: v for k, v in edge.items() if k not in ("source", "target")}
                )
            return cls(graph=graph, meta=data["meta"])
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a circuit written by neva_tl ({error})") from error

    @check_arguments
    def save(self, path: str | Path) -> Path:
        """Write the graph (`.json`, `.graphml`) or its picture (`.html`, `.svg`, `.pdf`, `.png`) atomically.

        The HTML is one page that makes no network requests; token text is escaped everywhere. `x.neuronpedia.json` is an
        attribution graph for circuit-tracer's and Neuronpedia's viewers (see `circuits.neuronpedia`), which `load` does not
        read.

        Args:
            path: The file; missing folders are created.

        Returns:
            The path.

        Raises:
            InputError: The suffix is not one of these.
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
            ".json": lambda: self._attribution_graph(path) if path.name.lower().endswith(NEURONPEDIA) else self._json(),
            ".graphml": self._graphml,
            ".svg": lambda: self.svg(standalone=True).encode(),
            # a tokenizer can produce a lone surrogate, which UTF-8 cannot encode
            ".html": lambda: self._page().encode("utf-8", errors="replace"),
        }[suffix]()
        with atomic_write(path) as file:
            file.write_bytes(data)
        return path

    def _json(self) -> bytes:
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False).encode()

    def _attribution_graph(self, path: Path) -> bytes:
        from neva_tl.circuits.neuronpedia import neuronpedia

        data = neuronpedia(self.graph, self.meta, path.name[: -len(NEURONPEDIA)])
        # a tokenizer can produce a lone surrogate, which UTF-8 cannot encode
        return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", errors="replace")

    def _graphml(self) -> bytes:
        clean = nx.DiGraph(**{k: _graphml_scalar(v) for k, v in self.meta.items()})
        for name, data in self.graph.nodes(data=True):
            clean.add_node(name, **{k: _graphml_scalar(v) for k, v in data.items()})
        for a, b, data in self.graph.edges(data=True):
            clean.add_edge(a, b, **{k: _graphml_scalar(v) for k, v in data.items()})
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


def _layer_and_index(name: str) -> tuple[int, int]:
    """`L3.H1` and `L3.127` as (layer, index)."""
    layer, index = name.removeprefix("L").split(".")
    return int(layer), int(index.removeprefix("H"))


def _six_digits(data: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with floats rounded to six significant digits."""
    return {key: float(f"{item:.6g}") if isinstance(item, float) else item for key, item in data.items()}


def _graphml_scalar(value: Any) -> Any:
    """A value that GraphML can store: JSON text for containers, escapes for characters that XML forbids."""
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(
        c
        if c in "\t\n\r" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF))
        else f"\\u{ord(c):04x}"
        for c in text
    )
