"""The graph of a task's circuit: searched, measured, written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import torch

from neva_tl import models
from neva_tl.attribution import frozen_scale, readout
from neva_tl.attribution.decompose import read_mask
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.parts import add_contexts, add_neuron, add_tokens, add_writes, finite
from neva_tl.circuits.search.effects import circuit_effects
from neva_tl.circuits.search.faithfulness import faithfulness
from neva_tl.circuits.search.gates import mean_activations
from neva_tl.circuits.search.nodes import Name, Nodes, split
from neva_tl.circuits.search.search import find_circuit, gate_scores, subset
from neva_tl.circuits.search.task import ValueTask
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks


def task_graph(
    model: models.Model,
    sets: Sequence[NeuronSet],
    task: ValueTask,
    nodes: Nodes | None,
    size: int,
    test: ValueTask | None,
    top_tokens: int,
    n_inputs: int,
    edge_texts: int,
    measure: bool,
    corpus: Any,
    seed: int,
    progress: bool,
    search: Mapping[str, Any],
) -> CircuitGraph:
    """The graph of a task's circuit (see `circuit` for the arguments)."""
    means = mean_activations(model, task)
    if nodes is None:
        nodes = find_circuit(model, task, size, means=means, seed=seed, progress=progress, **search).nodes
    scores = gate_scores(model, task, means, nodes)
    few = subset(task, _spread(task, edge_texts))
    effects = circuit_effects(model, few, nodes, means=means, n_inputs=n_inputs, measure=measure)
    owners: dict[tuple[int, int], list[tuple[str, Mapping[Any, Any]]]] = {}
    for item in sets:
        for row in item.df.to_dict("records"):
            owners.setdefault((int(row["layer"]), int(row["neuron"])), []).append((item.value, row))
    graph: Any = nx.DiGraph()
    for name in task.ids:
        graph.add_node(f"value:{name}", kind="value", value=name)
    for row in effects.inputs.to_dict("records"):
        label = f"input:{row['text']}" if f"input:{row['text']}" not in graph else f"input:{row['text']}#{row['token']}"
        numbers = finite({key: row[key] for key in ("total", "measured", "lo", "hi")})
        graph.add_node(label, kind="input", text=row["text"], token=row["token"], count=row["count"], **numbers)
    inputs = {data["token"]: name for name, data in graph.nodes(data=True) if data["kind"] == "input"}
    head_scores, neuron_scores = split(model, scores)
    whole = float(scores.abs().sum()) or 1.0
    for layer, head in nodes.head_list():
        share = float(head_scores[layer, head]) / whole
        graph.add_node(f"head:L{layer}.H{head}", kind="head", layer=layer, head=head, share=share)
    plain = task.tokens[~task.tokens["shared"]].reset_index(drop=True)
    contrasts, signs = _contrasts(model, task, nodes), {}
    scale = frozen_scale(model, task.examples, chat=task.chat)
    read = readout(model, scale=scale)
    for layer, index in nodes.neuron_list():
        node = add_neuron(graph, layer, index, owners.get((layer, index), ()))
        graph.nodes[node]["share"] = float(neuron_scores[layer, index]) / whole
        graph.nodes[node]["contrast"] = contrasts[layer, index]
        signs[node] = 1 if contrasts[layer, index] >= 0 else -1
        row_out = models.w_out(model, layer).detach().float()[index]
        written = (contrasts[layer, index] * (row_out @ read)).cpu().numpy()
        add_writes(graph, model, node, written)
        add_tokens(graph, node, plain, written[plain["token"].to_numpy()], top_tokens)
    _add_effects(graph, effects, inputs)
    add_contexts(graph, model, corpus if corpus is not None else task.examples, signs, task.chat)
    meta: dict[str, Any] = {
        "model": models.info(model).name,
        "values": [task.value],
        "task": task.describe(),
        "size": len(nodes),
        "heads": [f"L{layer}.H{head}" for layer, head in nodes.head_list()],
        "neurons": [f"L{layer}.{index}" for layer, index in nodes.neuron_list()],
        "scale": scale,
        "norm": f"final norm frozen at its mean scale {scale:.4g}",
        "top_tokens": top_tokens,
        "n_examples": len(few.examples),
        "attributed": "direct path in nats of the task, exact with norm scale and activation ratio frozen; into heads: "
        "attribution patching; to tokens: contrast between the poles times output weights, in logits",
        "measured": "change when the source alone is mean-ablated, with its 95 % interval over texts"
        if measure
        else "not measured",
        "share": "of the sum of absolute gate-integrated gradients of the circuit",
    }
    if sets:
        mine = [data for _, data in graph.nodes(data=True) if data["kind"] == "neuron"]
        own = sum(task.value in data["values"].split(",") for data in mine)
        meta["selected"] = (
            f"{own} of {len(mine)} neurons are selected neurons of {task.value}, "
            f"{sum(data['selected'] for data in mine)} of some value"
        )
    if test is not None:
        meta["faithfulness"] = faithfulness(model, test, nodes, means=means, seed=seed).to_dict()
    return CircuitGraph(graph=graph, meta=meta)


def _spread(task: ValueTask, per_pole: int) -> list[int]:
    """Numbers of the first so many texts of each pole."""
    return sorted(int(i) for sign in (1.0, -1.0) for i in np.flatnonzero(task.signs == sign)[:per_pole])


def _contrasts(model: models.Model, task: ValueTask, nodes: Nodes) -> dict[tuple[int, int], float]:
    """Mean activation at the read tokens, + minus - texts, of every neuron of the circuit."""
    by_layer: dict[int, list[int]] = {}
    for layer, index in nodes.neuron_list():
        by_layer.setdefault(layer, []).append(index)
    out = {pair: 0.0 for pair in nodes.neuron_list()}
    weights = torch.as_tensor(task.weights, dtype=torch.float32)
    for rows, batch in inference.batches(model, task.examples, chat=task.chat):
        mask = read_mask(batch, task.at)
        each = weights[torch.as_tensor(rows)].to(mask.device) / mask.sum(dim=1).clamp_min(1)
        names = {layer: models.hook_name(model, layer, "post") for layer in by_layer}
        with record_hooks(model, names.values()) as seen:
            inference.forward_batch(model, batch, logits=False)
        for layer, chosen in by_layer.items():
            found = torch.einsum("bnk,bn,b->k", seen[names[layer]][..., chosen].float(), mask.float(), each)
            for index, number in zip(chosen, found.tolist(), strict=True):
                out[layer, index] += number
    return out


def _add_effects(graph: Any, effects: Any, inputs: Mapping[int, str]) -> None:
    """Edges of a task's circuit; into heads, `attributed` is attribution patching (their inputs act through patterns too)."""

    def label(name: Name) -> str:
        kind, layer, index = name
        return inputs[index] if kind == "input" else f"{kind}:L{layer}.{'H' if kind == 'head' else ''}{index}"

    for row in effects.edges.to_dict("records"):
        numbers = finite({key: row[key] for key in ("attributed", "total", "measured", "lo", "hi")})
        numbers.setdefault("attributed", numbers["total"])
        if any(numbers[key] for key in numbers):
            kind = "reads" if row["source"][0] == "input" and row["target"][0] == "head" else "feeds"
            graph.add_edge(label(row["source"]), label(row["target"]), kind=kind, **numbers)
    for row in effects.values.to_dict("records"):
        numbers = finite({key: row[key] for key in ("attributed", "measured", "lo", "hi")})
        graph.add_edge(label(row["source"]), f"value:{row['value']}", kind="value", **numbers)
