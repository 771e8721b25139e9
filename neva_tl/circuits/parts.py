"""Nodes and edges that both kinds of circuit graphs share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.attribution import token_text
from neva_tl.circuits.search.contexts import top_contexts

#: Numbers of a selected neuron's row that travel into its node.
STATISTICS = ("g", "lo", "hi", "p", "q", "score", "write", "mean_plus", "mean_minus")


#: Contexts kept per neuron.
CONTEXTS = 4


def add_neuron(graph: Any, layer: int, index: int, owners: Sequence[tuple[str, Mapping[Any, Any]]]) -> str:
    node = f"neuron:L{layer}.{index}"
    held = [name for name in graph.nodes[node]["values"].split(",") if name] if node in graph else []
    names = list(dict.fromkeys([*held, *(name for name, _ in owners)]))
    known = dict(graph.nodes[node]) if node in graph else {}
    graph.add_node(
        node,
        kind="neuron",
        layer=layer,
        neuron=index,
        value=known.get("value") or (names[0] if names else ""),
        values=",".join(names),
        selected=bool(names),
        **({} if held or not owners else finite({name: owners[0][1].get(name) for name in STATISTICS})),
    )
    return node


def add_writes(graph: Any, model: models.Model, node: str, everywhere: np.ndarray, top: int = 8) -> None:
    reader = models.tokenizer(model)
    best = np.argsort(-np.abs(everywhere), kind="stable")[:top]
    writes = [[token_text(reader, int(t)), round(float(everywhere[t]), 4)] for t in best]
    graph.nodes[node]["writes"] = json.dumps(writes, ensure_ascii=False)


def add_tokens(graph: Any, node: str, plain: pd.DataFrame, effects: np.ndarray, top: int) -> None:
    for column in np.argsort(-np.abs(effects), kind="stable")[:top]:
        token = plain.iloc[int(column)]
        _add_token(graph, token)
        graph.add_edge(node, f"token:{token['token']}", kind="attributed", attributed=float(effects[column]))


def _add_token(graph: Any, token: pd.Series) -> None:
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


def finite(numbers: Mapping[Any, Any]) -> dict[str, float]:
    """The finite numbers among these: a node or edge carries nothing else."""
    return {str(k): float(v) for k, v in numbers.items() if v is not None and np.isfinite(v)}


def add_contexts(graph: Any, model: models.Model, corpus: Any, signs: Mapping[str, int], chat: bool | None) -> None:
    nodes = [name for name, data in graph.nodes(data=True) if data["kind"] == "neuron"]
    if not nodes:
        return
    pairs = [(graph.nodes[name]["layer"], graph.nodes[name]["neuron"]) for name in nodes]
    ways = [signs.get(name, 1) for name in nodes]
    found = top_contexts(model, pairs, corpus, k=CONTEXTS, signs=ways, chat=chat)
    for name, pair in zip(nodes, pairs, strict=True):
        graph.nodes[name]["contexts"] = json.dumps([item.to_dict() for item in found[pair]], ensure_ascii=False)
