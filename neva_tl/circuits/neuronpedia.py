"""neuronpedia(): a circuit as an attribution graph, as circuit-tracer and Neuronpedia's viewer read it.

The format (circuit-tracer's frontend/graph_models.py; Neuronpedia's graph-schema.json) is one JSON of `metadata`, `qParams`,
`nodes` and `links`, and it describes one prompt. A circuit of neva_tl is one of many texts:

- input tokens are the `prompt_tokens`, one column each; heads, neurons, tokens and values lie in the last column;
- the weight of a link is the edge's `attributed`; edges without one (which value a token belongs to) are in the node's label;
- `feature` is the neuron's index, and `HEADS` + index for a head; the feature types are `neuron` and `attention head`, so that
  nobody takes them for transcoder features;
- output nodes are `logit` nodes without a probability: the viewer reads one from the label, where it is `nan`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import networkx as nx

import neva_tl
from neva_tl.core.errors import InputError

#: Added to the index of a head, so that no head and neuron of a layer share a number.
HEADS = 1_000_000


def neuronpedia(graph: nx.DiGraph, meta: Mapping[str, Any], slug: str) -> dict[str, Any]:
    """Plain data of a circuit in the format of attribution graphs.

    Args:
        graph: Graph of a `CircuitGraph`.
        meta: Its facts.
        slug: Name of the graph; characters other than letters, digits and `-` become `-`.

    Raises:
        InputError: The circuit has no neuron and no head, without which the viewer has nothing to draw.

    Example:
        >>> from neva_tl.circuits.neuronpedia import neuronpedia
        >>> graph = nv.circuit(model, neurons.head(5), values=["benevolence", "power"], top_tokens=2)
        >>> data = neuronpedia(graph.graph, graph.meta, "kindness")
        >>> sorted(data), data["metadata"]["slug"]
        (['links', 'metadata', 'nodes', 'qParams'], 'kindness')
    """
    inputs = _of_kind(graph, "input")
    layers = [data["layer"] for _, data in graph.nodes(data=True) if "layer" in data]
    if not layers:
        raise InputError("this circuit has no neurons and no heads: there is no attribution graph to write")
    prompt_tokens = [str(graph.nodes[name]["text"]) for name in inputs] or ["(any text)"]
    last = len(prompt_tokens) - 1
    column = dict.fromkeys(graph.nodes, last) | {name: position for position, name in enumerate(inputs)}
    outputs = {name: number for number, name in enumerate(_of_kind(graph, "value") + _of_kind(graph, "token"))}
    nodes = {name: _node(graph, name, column[name], max(layers) + 1, outputs.get(name, 0)) for name in graph.nodes}
    links = [
        {
            "source": nodes[source]["node_id"],
            "target": nodes[target]["node_id"],
            "weight": float(f"{edge['attributed']:.6g}"),
        }
        for source, target, edge in graph.edges(data=True)
        if "attributed" in edge
    ]
    facts = [f"{key}: {meta[key]}" for key in ("task", "attributed", "norm", "pruned") if key in meta]
    return {
        "metadata": {
            "slug": re.sub(r"[^a-z0-9]+", "-", slug.lower()).strip("-") or "circuit",
            "scan": str(meta.get("model", "")),
            "transcoder_list": [],
            "prompt_tokens": prompt_tokens,
            "prompt": "".join(prompt_tokens),
            "info": {
                "description": "; ".join(["circuit of neurons and heads over many texts, not of one prompt", *facts]),
                "generator": {"name": "neva_tl", "version": neva_tl.__version__},
            },
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": list(nodes.values()),
        "links": links,
    }


def _of_kind(graph: nx.DiGraph, kind: str) -> list[str]:
    return [name for name, data in graph.nodes(data=True) if data["kind"] == kind]


def _node(graph: nx.DiGraph, name: str, column: int, top: int, number: int) -> dict[str, Any]:
    data = graph.nodes[name]
    kind = data["kind"]
    share = f" ({data['share']:+.2g} of the circuit)" if "share" in data else ""
    if kind == "input":
        layer, feature, kind, label = "E", int(data["token"]), "embedding", str(data["text"])
    elif kind == "head":
        layer, feature, kind = str(data["layer"]), HEADS + int(data["head"]), "attention head"
        label = f"head L{layer}.H{data['head']}{share}"
    elif kind == "neuron":
        layer, feature = str(data["layer"]), int(data["neuron"])
        value = f" {data['values']}" if data.get("values") else ""
        label = f"neuron L{layer}.{feature}{value}{share}"
    else:
        layer, feature = str(top), number
        label = (
            f'Output "{data["text"]}" (p=nan) of {data["value"]}'
            if kind == "token"
            else f'Output "{data["value"]}" (p=nan)'
        )
        kind = "logit"
    return {
        "node_id": f"{layer}_{feature}_{column}",
        "feature": feature,
        "layer": layer,
        "ctx_idx": column,
        "feature_type": kind,
        "jsNodeId": f"{layer}_{feature}-{column}",
        "clerp": label,
        "influence": None,
        "activation": None,
    }
