"""CircuitGraph: the graph, as a table, as a picture, as files."""

from __future__ import annotations

import html
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from neva_tl.errors import InputError

COLUMNS = ("value", "layer", "neuron", "token", "token_value", "attribution", "measured")
SUFFIXES = (".json", ".graphml", ".html", ".svg", ".pdf", ".png")


@dataclass(frozen=True, eq=False)
class CircuitGraph:
    """Neurons, tokens and values as typed nodes, signed effects as edges.

    Attributes:
        graph: networkx DiGraph. Nodes have `kind` (neuron | token | value); edges have `kind`: `attributed` (neuron ->
            token), `value` (neuron -> value: `attributed`, and `measured` where examples were given), `belongs` (token
            -> value).
        meta: how it was made (model, scale of the final norm, examples).
    """

    graph: Any
    meta: Mapping[str, Any] = field(default_factory=dict)

    def nodes(self, kind: str) -> list[str]:
        """Names of the nodes of one kind."""
        return [name for name, data in self.graph.nodes(data=True) if data["kind"] == kind]

    def table(self) -> pd.DataFrame:
        """One row per (value, neuron, token): value whose neuron it is, layer, neuron, token (text), token_value,
        attribution, and `measured` (the neuron's measured effect on `token_value`, the same for all its tokens; NaN
        where not measured)."""
        rows = []
        for source, target, edge in self.graph.edges(data=True):
            if edge["kind"] != "attributed":
                continue
            neuron, token = self.graph.nodes[source], self.graph.nodes[target]
            to_value = self.graph.edges.get((source, f"value:{token['value']}"), {})
            for name in neuron["values"].split(","):
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

    def svg(self, **options: Any) -> str:
        """The picture as an SVG element with hover titles: with heads or inputs the layered one (`draw_layered.layered_svg`),
        else neurons beside tokens (`draw.circuit_svg`, which takes the options)."""
        if self._layered(options):
            from neva_tl.circuits.draw_layered import layered_svg
            from neva_tl.circuits.layered import layered

            return layered_svg(layered(self.graph), standalone=bool(options.get("standalone", False)))
        from neva_tl.circuits.draw import circuit_svg

        return circuit_svg(self.table(), **options)

    def show(self, **options: Any) -> Any:
        """The picture as a matplotlib figure (see `svg`)."""
        if self._layered(options):
            from neva_tl.circuits.draw_layered import layered_figure
            from neva_tl.circuits.layered import layered

            return layered_figure(layered(self.graph))
        from neva_tl.circuits.draw import circuit_figure

        return circuit_figure(self.table(), **options)

    def _layered(self, options: Mapping[str, Any]) -> bool:
        return not set(options) - {"standalone"} and bool(self.nodes("head") or self.nodes("input"))

    def to_json(self) -> dict[str, Any]:
        """Plain data: meta, nodes, edges."""
        return {
            "schema": 1,
            "kind": "circuit",
            "meta": dict(self.meta),
            "nodes": [{"id": name, **data} for name, data in self.graph.nodes(data=True)],
            "edges": [{"source": a, "target": b, **data} for a, b, data in self.graph.edges(data=True)],
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
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
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
        from neva_tl.circuits.page import page

        return page(self)

    def __repr__(self) -> str:
        count = {kind: len(self.nodes(kind)) for kind in ("neuron", "token", "value")}
        return f"CircuitGraph({count['neuron']} neurons, {count['token']} tokens, {count['value']} values)"

    def _repr_html_(self) -> str:
        from neva_tl.circuits.page import fragment

        return f"<p>{html.escape(repr(self))}</p>{fragment(self)}"


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
