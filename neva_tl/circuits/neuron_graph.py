"""The graph of given neurons: the value tokens they write, and the values of these tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
import pandas as pd

from neva_tl import models
from neva_tl.attribution import direct_logits, frozen_scale, output_scales, value_tokens, without_token
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.parts import add_contexts, add_neuron, add_tokens, add_writes, finite_attributes
from neva_tl.circuits.search.measure import ablation_effects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import SCHWARTZ
from neva_tl.prompts.example import Example


def neuron_graph(
    model: models.Model,
    sets: Sequence[NeuronSet],
    *,
    values: Sequence[str] | None,
    words: Mapping[str, Sequence[str]] | None,
    top_tokens: int,
    corpus: Sequence[str] | Sequence[Example] | None,
    examples: Sequence[Example] | None,
    chat: bool | None,
) -> CircuitGraph:
    """Build the graph of given neurons (see `circuit`).

    Args:
        model: A TransformerLens model.
        sets: Neuron sets, usually one per value.
        values: Values whose tokens are attributed; None for all of the theory of the first set, without those that have no
            token in this vocabulary (`meta["without_token"]` names them).
        words: Words per value; None for half A of our lists.
        top_tokens: Edges to tokens per neuron.
        corpus: Texts for the neurons' top contexts; None for no contexts.
        examples: Texts at whose answer tokens effects are measured; None for no measured effects and scale 1.
        chat: As in `inference.encode`.

    Raises:
        InputError: Every token is claimed by two values, no value has a token, or examples are missing where the model
            normalises what its MLPs write.
    """
    theory = sets[0].theory if sets else SCHWARTZ
    names = theory.names if values is None else tuple(values)
    implied = theory if all(name in theory for name in names) else None
    tokens = value_tokens(model, names, words, implied, strict=values is not None)
    if not len(tokens):
        raise InputError(f"no value has a token in the tokenizer of {models.info(model).name}: give words=...")
    missing = without_token(tokens, names, implied)
    if tokens["shared"].all():
        raise InputError("every token is claimed by two values: give words that tell the values apart")
    scale = 1.0 if examples is None else frozen_scale(model, examples, chat=chat)
    layer_scales = None if examples is None else output_scales(model, examples, chat=chat)
    graph = nx.DiGraph()
    for name in dict.fromkeys([*(n for n in names if n not in missing), *(item.value for item in sets)]):
        graph.add_node(f"value:{name}", kind="value", value=name)
    for item in sets:
        if len(item):
            measured = None if examples is None else ablation_effects(model, item, examples, tokens, chat=chat)
            _add_set(graph, model, item, tokens, top_tokens, (scale, layer_scales), measured)
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
        **({"without_token": list(missing)} if missing else {}),
    }
    return CircuitGraph(graph=graph, meta=meta)


def _add_set(
    graph: nx.DiGraph,
    model: models.Model,
    neurons: NeuronSet,
    tokens: pd.DataFrame,
    top: int,
    scales: tuple[float, Sequence[float] | None],
    measured: pd.DataFrame | None,
) -> None:
    """Add a set's neurons, their strongest edges to tokens, and their edges to all values.

    `scales` are the frozen scales of the final norm and of the norm after each layer's MLP (None: there are no such norms).
    """
    plain = tokens[~tokens["shared"]].reset_index(drop=True)
    logits = direct_logits(model, neurons, scale=scales[0], output_scales=scales[1]).cpu().numpy()
    effects = logits[:, plain["token"].to_numpy()]
    columns = ["measured", "lo", "hi"]
    changes = {} if measured is None else measured.set_index(["place", "value"])[columns].to_dict("index")
    for index, row in enumerate(neurons.df.to_dict("records")):
        node = add_neuron(graph, int(row["layer"]), int(row["neuron"]), [(neurons.value, row)])
        add_writes(graph, model, node, logits[index])
        add_tokens(graph, node, plain, effects[index], top)
        for name, tokens_of_value in plain.groupby("value", sort=False).indices.items():
            edge = {"kind": "value", "attributed": float(effects[index, tokens_of_value].mean())}
            graph.add_edge(node, f"value:{name}", **edge, **finite_attributes(changes.get((index, str(name)), {})))
