"""circuit(): from neurons, or from a task, to a graph of input tokens, heads, neurons, value tokens and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import pandas as pd

from neva_tl import models
from neva_tl.attribution import direct_logits, frozen_scale, value_tokens
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.parts import add_contexts, add_neuron, add_tokens, add_writes, finite
from neva_tl.circuits.search.measure import ablation_effects
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.task import ValueTask
from neva_tl.circuits.task_graph import task_graph
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.values import VALUES
from neva_tl.prompts.example import Example


def circuit(
    model: models.Model,
    neurons: NeuronSet | Sequence[NeuronSet] = (),
    *,
    task: ValueTask | None = None,
    nodes: Nodes | None = None,
    size: int = 60,
    test: ValueTask | None = None,
    values: Sequence[str] | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
    top_tokens: int = 8,
    n_inputs: int = 10,
    edge_texts: int = 32,
    measure: bool = True,
    corpus: Sequence[str] | Sequence[Example] | None = None,
    examples: Sequence[Example] | None = None,
    chat: bool | None = None,
    seed: int = 0,
    progress: bool = False,
    **search: Any,
) -> CircuitGraph:
    """The circuit of a value.

    Without a task: the given neurons, the value tokens they write and the values these stand for. Edges neuron -> token
    carry `attributed`: the token's logit change, against the average token, when the neuron moves from its mean on the
    - pole to its mean on the + pole (direct path, see `attribution.direct_logits`). Edges neuron -> value carry the
    mean of that over the value's tokens and, with examples, `measured`, `lo`, `hi`: the change of the value's log-odds
    when the neuron alone is ablated (a neuron that promotes a value has `measured` < 0). With examples the final
    norm's scale is measured on them and attributions are in logits; without, the scale is 1 and attributions are in
    logits times the stream's own scale.

    With a task (`value_task`): the heads and neurons that carry it, found by `find_circuit` unless `nodes` names them,
    what feeds them and the input tokens that matter most, in nats of the task (`circuit_effects`); edges to tokens are
    the neuron's contrast between the poles times what it writes. Given neuron sets mark the value neurons among them
    and lend their statistics.

    Args:
        model: a TransformerLens model.
        neurons: one set, or several (one per value).
        task: the behaviour to explain.
        nodes: the circuit's heads and neurons, where they are known.
        size: heads and neurons to look for.
        test: the same task on other texts: its faithfulness and completeness go into `meta`.
        values: whose tokens are looked at (without a task); by default all ten, so that leaks show too.
        words: value -> words (without a task); by default half A of our lists.
        top_tokens: edges kept per neuron: its value tokens of largest |attribution|. Edges to values see all tokens.
        n_inputs: input tokens kept.
        edge_texts: texts per pole on which edges are measured.
        measure: False leaves out the ablations behind `measured`.
        corpus: texts for the neurons' top contexts; by default the task's.
        examples: texts at whose answer tokens effects are measured (without a task).
        chat: as in `inference.encode` (without a task).
        search: options of `find_circuits`.

    Raises:
        InputError: neither neurons nor a task, no tokens for a value, or `top_tokens` below 1.
    """
    sets = [neurons] if isinstance(neurons, NeuronSet) else list(neurons)
    if task is None and not any(len(item) for item in sets):
        raise InputError("a circuit needs at least one neuron, or a task: the sets are empty")
    if top_tokens < 1:
        raise InputError(f"top_tokens must be at least 1, not {top_tokens}")
    if task is not None:
        return task_graph(
            model,
            sets,
            task,
            nodes,
            size,
            test,
            top_tokens,
            n_inputs,
            edge_texts,
            measure,
            corpus,
            seed,
            progress,
            search,
        )
    if nodes is not None or search:
        raise InputError(f"nodes and search options ({', '.join(search) or 'nodes'}) need a task")
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
    if corpus is not None:
        add_contexts(graph, model, corpus, {}, chat)
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
        "measured": "change of the value's log-odds when the neuron is ablated to its mean"
        if examples
        else "not measured",
    }
    return CircuitGraph(graph=graph, meta=meta)


# ---------------------------------------------------------------- given neurons


def _add_set(
    graph: Any,
    model: models.Model,
    neurons: NeuronSet,
    tokens: pd.DataFrame,
    top: int,
    scale: float,
    examples: Sequence[Example] | None,
    chat: bool | None,
) -> None:
    plain = tokens[~tokens["shared"]].reset_index(drop=True)
    everywhere = direct_logits(model, neurons, scale=scale).cpu().numpy()
    effects = everywhere[:, plain["token"].to_numpy()]
    found = None if examples is None else ablation_effects(model, neurons, examples, tokens, chat=chat)
    measured = {} if found is None else found.set_index(["place", "value"])[["measured", "lo", "hi"]].to_dict("index")
    for place, row in enumerate(neurons.df.to_dict("records")):
        node = add_neuron(graph, int(row["layer"]), int(row["neuron"]), [(neurons.value, row)])
        add_writes(graph, model, node, everywhere[place])
        add_tokens(graph, node, plain, effects[place], top)
        for name, columns in plain.groupby("value", sort=False).indices.items():
            edge = {"kind": "value", "attributed": float(effects[place, columns].mean())}
            graph.add_edge(node, f"value:{name}", **edge, **finite(measured.get((place, str(name)), {})))
