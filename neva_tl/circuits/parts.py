"""Nodes and edges that both kinds of circuit graphs share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.attribution import token_text
from neva_tl.circuits.search.contexts import top_contexts
from neva_tl.prompts.example import Example

#: Columns of a selected neuron's row that its node carries.
STATISTICS = ("g", "lo", "hi", "p", "q", "score", "write", "mean_plus", "mean_minus")


#: Contexts per neuron.
CONTEXTS = 4


def add_neuron(graph: nx.DiGraph, layer: int, index: int, owners: Sequence[tuple[str, Mapping[Any, Any]]]) -> str:
    """Add a neuron, or add values to an existing one, whose statistics stay those of its first owner.

    Args:
        graph: The graph to change.
        layer: 0-based.
        index: Index of the neuron in its layer.
        owners: (value, row of its set) of each set that holds the neuron.

    Returns:
        The node's name.
    """
    node = f"neuron:L{layer}.{index}"
    existing = dict(graph.nodes[node]) if node in graph else {"values": ""}
    existing_values = [name for name in existing["values"].split(",") if name]
    names = list(dict.fromkeys([*existing_values, *(name for name, _ in owners)]))
    statistics = {} if existing_values or not owners else {name: owners[0][1].get(name) for name in STATISTICS}
    graph.add_node(
        node,
        kind="neuron",
        layer=layer,
        neuron=index,
        value=existing.get("value") or (names[0] if names else ""),
        values=",".join(names),
        selected=bool(names),
        **finite_attributes(statistics),
    )
    return node


def add_writes(graph: nx.DiGraph, model: models.Model, node: str, logits: np.ndarray, top: int = 8) -> None:
    """Store a neuron's strongest logit changes in its node, as JSON text of (token text, change).

    Args:
        graph: The graph to change.
        model: A TransformerLens model.
        node: Name of the neuron's node.
        logits: Change of every token's logit, `[d_vocab]`.
        top: Number of tokens, by |change|.
    """
    tokenizer = models.tokenizer(model)
    best = np.argsort(-np.abs(logits), kind="stable")[:top]
    writes = [[token_text(tokenizer, int(t)), round(float(logits[t]), 4)] for t in best]
    graph.nodes[node]["writes"] = json.dumps(writes, ensure_ascii=False)


def add_tokens(graph: nx.DiGraph, node: str, plain: pd.DataFrame, effects: np.ndarray, top: int) -> None:
    """Add a neuron's strongest edges to value tokens, and the tokens.

    Args:
        graph: The graph to change.
        node: Name of the neuron's node.
        plain: Value tokens that one value alone claims (see `attribution.value_tokens`).
        effects: Change of the logit of each of them.
        top: Number of edges, by |effect|.
    """
    for column in np.argsort(-np.abs(effects), kind="stable")[:top]:
        token = plain.iloc[int(column)]
        _add_token(graph, token)
        graph.add_edge(node, f"token:{token['token']}", kind="attributed", attributed=float(effects[column]))


def _add_token(graph: nx.DiGraph, token: pd.Series) -> None:
    node = f"token:{token['token']}"
    if node in graph:
        return
    graph.add_node(
        node,
        kind="token",
        token=int(token["token"]),
        text=str(token["text"]),
        word=str(token["word"]),
        multi=bool(token["multi"]),
        value=str(token["value"]),
    )
    graph.add_edge(node, f"value:{token['value']}", kind="belongs")


def finite_attributes(numbers: Mapping[Any, Any]) -> dict[str, float]:
    """The finite numbers of a mapping as floats: nodes and edges omit missing statistics.

    Args:
        numbers: Numbers by name; None, NaN and infinities are dropped.
    """
    return {str(k): float(v) for k, v in numbers.items() if v is not None and np.isfinite(v)}


def add_contexts(
    graph: nx.DiGraph,
    model: models.Model,
    corpus: Sequence[str] | Sequence[Example],
    signs: Mapping[str, int],
    chat: bool | None,
) -> None:
    """Store each neuron's top contexts in its node, as JSON text.

    Args:
        graph: The graph to change.
        model: A TransformerLens model.
        corpus: Texts to read.
        signs: Per node -1 for the lowest activations; 1 (highest) where a node is missing.
        chat: As in `inference.encode`.
    """
    nodes = [name for name, data in graph.nodes(data=True) if data["kind"] == "neuron"]
    if not nodes:
        return
    pairs = [(graph.nodes[name]["layer"], graph.nodes[name]["neuron"]) for name in nodes]
    directions = [signs.get(name, 1) for name in nodes]
    contexts = top_contexts(model, pairs, corpus, k=CONTEXTS, signs=directions, chat=chat)
    for name, pair in zip(nodes, pairs, strict=True):
        graph.nodes[name]["contexts"] = json.dumps([item.to_dict() for item in contexts[pair]], ensure_ascii=False)
