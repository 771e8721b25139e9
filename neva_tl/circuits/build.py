"""circuit(): from neurons to a graph of neurons, tokens and values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from neva_tl import models
from neva_tl.attribution import direct_logits, frozen_scale, token_text, value_tokens
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.errors import InputError
from neva_tl.neurons import NeuronSet
from neva_tl.prompts.example import Example
from neva_tl.values import VALUES

#: Numbers of a neuron's row that travel into its node.
STATISTICS = ("g", "lo", "hi", "p", "q", "score", "write", "mean_plus", "mean_minus")


def circuit(
    model: Any,
    neurons: NeuronSet | Sequence[NeuronSet],
    *,
    values: Sequence[str] | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
    top_tokens: int = 8,
    examples: Sequence[Example] | None = None,
    chat: bool | None = None,
) -> CircuitGraph:
    """Link value neurons to the value tokens they write, and to the values those tokens stand for.

    Edges neuron -> token carry `attributed`: the token's logit change, against the average token, when the neuron
    moves from its mean on the - pole to its mean on the + pole (direct path, see `attribution.direct_logits`). Edges
    neuron -> value carry the mean of that over the value's tokens and, if examples are given, `measured`: the change
    of the tokens' mean log-odds when the neuron alone is ablated to its mean, all paths included (so a neuron that
    promotes a value has `measured` < 0). With examples the final norm's scale is measured on them and attributions are
    in logits; without, the scale is 1 and attributions are in logits times the residual stream's own scale (order and
    sign are the same).

    Args:
        model: a TransformerLens model.
        neurons: one set, or several (one per value).
        values: whose tokens are looked at; by default all ten, so that leaks show too.
        words: value -> words; by default half A of our lists.
        top_tokens: edges kept per neuron: its value tokens of largest |attribution|. Edges to values see all tokens.
        examples: texts at whose answer tokens effects are measured.
        chat: as in `inference.encode`.

    Raises:
        InputError: an empty set, no tokens for a value, or `top_tokens` below 1.
    """
    sets = [neurons] if isinstance(neurons, NeuronSet) else list(neurons)
    if not sets or not any(len(item) for item in sets):
        raise InputError("a circuit needs at least one neuron: the sets are empty")
    if top_tokens < 1:
        raise InputError(f"top_tokens must be at least 1, not {top_tokens}")
    names = tuple(values) if values is not None else VALUES
    tokens = value_tokens(model, names, words)
    if tokens["shared"].all():
        raise InputError("every token is claimed by two values: give words that tell the values apart")
    scale = 1.0 if examples is None else frozen_scale(model, examples, chat=chat)
    graph: Any = nx.DiGraph()
    for name in dict.fromkeys([*names, *(item.value for item in sets)]):
        graph.add_node(f"value:{name}", kind="value", value=name)
    for item in sets:
        if len(item):
            _add_set(graph, model, item, tokens, top_tokens, scale, examples, chat)
    meta = {
        "model": models.info(model).name,
        "values": [item.value for item in sets],
        "scale": scale,
        "norm": "final norm frozen at scale 1: attributions in logits times the residual scale"
        if examples is None
        else f"final norm frozen at its mean scale {scale:.4g} on {len(examples)} examples: attributions in logits",
        "top_tokens": top_tokens,
        "n_examples": 0 if examples is None else len(examples),
        "attributed": "direct path, mean- to mean+, centred over the vocabulary",
        "measured": "change of mean token log-odds when the neuron is ablated to its mean"
        if examples
        else "not measured",
    }
    return CircuitGraph(graph=graph, meta=meta)


def _add_set(
    graph: Any,
    model: Any,
    neurons: NeuronSet,
    tokens: pd.DataFrame,
    top: int,
    scale: float,
    examples: Sequence[Example] | None,
    chat: bool | None,
) -> None:
    from neva_tl.circuits.measure import ablation_effects

    plain = tokens[~tokens["shared"]].reset_index(drop=True)
    everywhere = direct_logits(model, neurons, scale=scale).cpu().numpy()
    effects = everywhere[:, plain["token"].to_numpy()]
    measured = None if examples is None else ablation_effects(model, neurons, examples, tokens, chat=chat)
    reader = models.tokenizer(model)
    for place, row in enumerate(neurons.df.to_dict("records")):
        layer, index = int(row["layer"]), int(row["neuron"])
        node = f"neuron:L{layer}.{index}"
        best = np.argsort(-np.abs(everywhere[place]), kind="stable")[:top]
        writes = [[token_text(reader, int(t)), round(float(everywhere[place, t]), 4)] for t in best]
        held = graph.nodes[node]["values"].split(",") if node in graph else []
        graph.add_node(
            node,
            kind="neuron",
            layer=layer,
            neuron=index,
            value=neurons.value if not held else graph.nodes[node]["value"],
            values=",".join([*held, neurons.value]),
            writes=json.dumps(writes, ensure_ascii=False),
            **_statistics(row),
        )
        for column in np.argsort(-np.abs(effects[place]), kind="stable")[:top]:
            token = plain.iloc[int(column)]
            _add_token(graph, token)
            graph.add_edge(node, f"token:{token['token']}", kind="attributed", attributed=float(effects[place, column]))
        for name, columns in plain.groupby("value", sort=False).indices.items():
            edge: dict[str, Any] = {"kind": "value", "attributed": float(effects[place, columns].mean())}
            if measured is not None:
                edge["measured"] = float(measured[str(name)].to_numpy(dtype=float)[place])
            graph.add_edge(node, f"value:{name}", **edge)


def _statistics(row: Mapping[Any, Any]) -> dict[str, float]:
    """The finite numbers of a neuron's row that its node keeps."""
    found = {name: row[name] for name in STATISTICS if row.get(name) is not None}
    return {name: float(number) for name, number in found.items() if np.isfinite(number)}


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
