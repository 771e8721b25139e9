"""The graph of a task's circuit: searched, measured, and written as nodes and edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.attribution import frozen_scale, output_scales, readout
from neva_tl.attribution.decompose import read_mask
from neva_tl.attribution.outputs import written
from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.parts import add_contexts, add_neuron, add_tokens, add_writes, finite_attributes
from neva_tl.circuits.search.circuit_run import CircuitRun
from neva_tl.circuits.search.effects import Effects, circuit_effects
from neva_tl.circuits.search.faithfulness import faithfulness
from neva_tl.circuits.search.nodes import Name, Nodes, split
from neva_tl.circuits.search.search import find_circuit, gate_scores
from neva_tl.circuits.search.task import ValueTask
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.models.hooks import record_hooks
from neva_tl.prompts.example import Example


def task_graph(
    model: models.Model,
    task: ValueTask,
    *,
    sets: Sequence[NeuronSet],
    nodes: Nodes | None,
    size: int,
    test: ValueTask | None,
    top_tokens: int,
    n_inputs: int,
    edge_texts: int,
    measure: bool,
    corpus: Sequence[str] | Sequence[Example] | None,
    seed: int,
    progress: bool,
    search: Mapping[str, Any],
) -> CircuitGraph:
    """Build the graph of a task's circuit (see `circuit`).

    Args:
        model: A TransformerLens model.
        task: The behaviour to explain.
        sets: Neuron sets whose values and statistics the graph's neurons carry.
        nodes: Heads and neurons of the circuit; None searches for them.
        size: Number of heads and neurons to search for.
        test: The same task on other texts, for faithfulness; None skips it.
        top_tokens: Edges to tokens per neuron.
        n_inputs: Number of input tokens.
        edge_texts: Texts per pole on which edges are measured.
        measure: False skips the ablations.
        corpus: Texts for the neurons' top contexts; None for the task's.
        seed: Seed of the search and of the random graphs.
        progress: Whether to show progress bars.
        search: Options of `find_circuits`.
    """
    run = CircuitRun.of(model, task)
    if nodes is None:
        nodes = find_circuit(model, task, size, means=run.means, seed=seed, progress=progress, **search).nodes
    scores = gate_scores(model, task, run.means, nodes)
    edge_task = task.subset(_first_texts(task, edge_texts))
    effects = circuit_effects(model, edge_task, nodes, means=run.means, n_inputs=n_inputs, measure=measure)
    scale = frozen_scale(model, task.examples, chat=task.chat)
    graph = nx.DiGraph()
    for name in task.ids:
        graph.add_node(f"value:{name}", kind="value", value=name)
    inputs = _add_inputs(graph, effects)
    _add_heads(graph, model, nodes, scores)
    scales = (scale, *output_scales(model, task.examples, chat=task.chat))
    signs = _add_neurons(graph, run, nodes, scores, _owners(sets), scales, top_tokens)
    _add_effects(graph, effects, inputs)
    add_contexts(graph, model, corpus if corpus is not None else task.examples, signs, task.chat)
    meta = _meta(run, nodes, scale, top_tokens, len(edge_task.examples), measure)
    if sets:
        meta["selected"] = _selected(graph, task)
    if test is not None:
        meta["faithfulness"] = faithfulness(model, test, nodes, means=run.means, seed=seed).to_dict()
    return CircuitGraph(graph=graph, meta=meta)


def _first_texts(task: ValueTask, per_pole: int) -> list[int]:
    """Indices of the first `per_pole` texts of each pole."""
    return sorted(int(i) for sign in (1.0, -1.0) for i in np.flatnonzero(task.signs == sign)[:per_pole])


def _owners(sets: Sequence[NeuronSet]) -> dict[tuple[int, int], list[tuple[str, Mapping[Any, Any]]]]:
    """(value, row) of every set that holds a neuron, by (layer, neuron)."""
    owners: dict[tuple[int, int], list[tuple[str, Mapping[Any, Any]]]] = {}
    for item in sets:
        for row in item.df.to_dict("records"):
            owners.setdefault((int(row["layer"]), int(row["neuron"])), []).append((item.value, row))
    return owners


def _total(scores: Tensor) -> float:
    """Sum of |score|, the unit of shares; 1 where all scores are 0."""
    return float(scores.abs().sum()) or 1.0


def _add_inputs(graph: nx.DiGraph, effects: Effects) -> dict[int, str]:
    """Add the input tokens; returns their nodes by token id."""
    inputs = {}
    for row in effects.inputs.to_dict("records"):
        label = f"input:{row['text']}"
        if label in graph:  # two tokens may have the same text
            label += f"#{row['token']}"
        numbers = finite_attributes({key: row[key] for key in ("total", "measured", "lo", "hi")})
        graph.add_node(label, kind="input", text=row["text"], token=row["token"], count=row["count"], **numbers)
        inputs[row["token"]] = label
    return inputs


def _add_heads(graph: nx.DiGraph, model: models.Model, nodes: Nodes, scores: Tensor) -> None:
    head_scores, _ = split(model, scores)
    for layer, head in nodes.head_list():
        share = float(head_scores[layer, head]) / _total(scores)
        graph.add_node(f"head:L{layer}.H{head}", kind="head", layer=layer, head=head, share=share)


def _add_neurons(
    graph: nx.DiGraph,
    run: CircuitRun,
    nodes: Nodes,
    scores: Tensor,
    owners: Mapping[tuple[int, int], list[tuple[str, Mapping[Any, Any]]]],
    scales: Sequence[float],
    top_tokens: int,
) -> dict[str, int]:
    """Add the neurons with their edges to value tokens; returns the sign of each neuron's contrast by node.

    `scales` are the frozen scales of the final norm and of the norm after each layer's MLP.
    """
    model = run.model
    _, neuron_scores = split(model, scores)
    plain = run.task.tokens[~run.task.tokens["shared"]].reset_index(drop=True)
    contrasts = _contrasts(run, nodes)
    read = readout(model, scale=scales[0])
    signs = {}
    for layer, index in nodes.neuron_list():
        contrast = contrasts[layer, index]
        node = add_neuron(graph, layer, index, owners.get((layer, index), ()))
        graph.nodes[node]["share"] = float(neuron_scores[layer, index]) / _total(scores)
        graph.nodes[node]["contrast"] = contrast
        signs[node] = 1 if contrast >= 0 else -1
        row_out = written(model, layer)[index] / scales[1 + layer]
        logits = (contrast * (row_out @ read)).cpu().numpy()
        add_writes(graph, model, node, logits)
        add_tokens(graph, node, plain, logits[plain["token"].to_numpy()], top_tokens)
    return signs


def _contrasts(run: CircuitRun, nodes: Nodes) -> dict[tuple[int, int], float]:
    """Mean activation at the read tokens, + minus - texts, of every neuron of the circuit."""
    model, task = run.model, run.task
    by_layer: dict[int, list[int]] = {}
    for layer, index in nodes.neuron_list():
        by_layer.setdefault(layer, []).append(index)
    out = {pair: 0.0 for pair in nodes.neuron_list()}
    for rows, batch in inference.batches(model, task.examples, chat=task.chat):
        mask = read_mask(batch, task.at)
        each = run.text_weights(rows, mask.device) / mask.sum(dim=1).clamp_min(1)
        names = {layer: models.hook_name(model, layer, "post") for layer in by_layer}
        with record_hooks(model, names.values()) as activations:
            inference.forward_batch(model, batch, logits=False)
        for layer, indices in by_layer.items():
            post = activations[names[layer]][..., indices].float()
            sums = torch.einsum("bnk,bn,b->k", post, mask.float(), each)
            for index, number in zip(indices, sums.tolist(), strict=True):
                out[layer, index] += number
    return out


def _add_effects(graph: nx.DiGraph, effects: Effects, inputs: Mapping[int, str]) -> None:
    """Add the edges; into heads, `attributed` is attribution patching (their inputs act through patterns too)."""

    def label(name: Name) -> str:
        kind, layer, index = name
        return inputs[index] if kind == "input" else f"{kind}:L{layer}.{'H' if kind == 'head' else ''}{index}"

    for row in effects.edges.to_dict("records"):
        numbers = finite_attributes({key: row[key] for key in ("attributed", "total", "measured", "lo", "hi")})
        numbers.setdefault("attributed", numbers["total"])
        if any(numbers[key] for key in numbers):
            kind = "reads" if row["source"][0] == "input" and row["target"][0] == "head" else "feeds"
            graph.add_edge(label(row["source"]), label(row["target"]), kind=kind, **numbers)
    for row in effects.values.to_dict("records"):
        numbers = finite_attributes({key: row[key] for key in ("attributed", "measured", "lo", "hi")})
        graph.add_edge(label(row["source"]), f"value:{row['value']}", kind="value", **numbers)


def _meta(
    run: CircuitRun, nodes: Nodes, scale: float, top_tokens: int, n_examples: int, measure: bool
) -> dict[str, Any]:
    """Facts about the graph for captions and files."""
    return {
        "model": models.info(run.model).name,
        "values": [run.task.value],
        "task": run.task.describe(),
        "size": len(nodes),
        "heads": [f"L{layer}.H{head}" for layer, head in nodes.head_list()],
        "neurons": [f"L{layer}.{index}" for layer, index in nodes.neuron_list()],
        "scale": scale,
        "norm": f"final norm frozen at its mean scale {scale:.4g}",
        "top_tokens": top_tokens,
        "n_examples": n_examples,
        "attributed": "direct path in nats of the task, exact with norm scale and activation ratio frozen; into heads: "
        "attribution patching; to tokens: contrast between the poles times output weights, in logits",
        "measured": "change when the source alone is mean-ablated, with its 95 % interval over texts"
        if measure
        else "not measured",
        "share": "of the sum of absolute gate-integrated gradients of the circuit",
    }


def _selected(graph: nx.DiGraph, task: ValueTask) -> str:
    """One line on how many of the graph's neurons are selected neurons."""
    neurons = [data for _, data in graph.nodes(data=True) if data["kind"] == "neuron"]
    of_value = sum(task.value in data["values"].split(",") for data in neurons)
    return (
        f"{of_value} of {len(neurons)} neurons are selected neurons of {task.value}, "
        f"{sum(data['selected'] for data in neurons)} of some value"
    )
