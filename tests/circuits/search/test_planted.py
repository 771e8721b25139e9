"""Planted circuits are found: the nodes, and edge by edge what feeds what and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neva_tl as nv
from helpers.planted_circuits import TRIGGER, VALUE_WORDS, Truth, plant, texts
from neva_tl.attribution import value_tokens
from neva_tl.circuits import CircuitGraph, Nodes, ValueTask, circuit, faithfulness, find_circuit

SEEDS = range(5)


def task_of(model: Any, seed: int, split: str = "train") -> ValueTask:
    examples, signs = texts(seed + (1000 if split == "test" else 0))
    tokens = value_tokens(model, list(VALUE_WORDS), VALUE_WORDS)
    clusters = np.arange(len(examples)).astype(str)
    return ValueTask("power", tuple(examples), signs, clusters, tokens, at="last", split=split)


def found_edges(graph: CircuitGraph) -> set[tuple[str, str]]:
    kinds = {"reads", "feeds", "attributed"}
    return {(a, b) for a, b, data in graph.graph.edges(data=True) if data["kind"] in kinds}


@pytest.mark.core
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_planted_edges_are_found(family: Any, tmp_path: Path) -> None:
    hits = planted = drawn = 0
    for seed in SEEDS:
        truth: Truth = plant(tmp_path / f"{family}{seed}", family, seed)
        model = nv.load(str(truth.folder))
        task = task_of(model, seed)
        nodes = find_circuit(model, task, 5, batch=None).nodes
        assert set(nodes.head_list()) == set(truth.heads), f"seed {seed}"
        assert set(nodes.neuron_list()) == set(truth.neurons), f"seed {seed}"
        # edges on texts that the search has not seen
        graph = circuit(model, task=task_of(model, seed, "test"), nodes=nodes, n_inputs=6).prune(0.95)
        edges = found_edges(graph)
        hits += len(edges & truth.edges)
        planted += len(truth.edges)
        drawn += len(edges)
    print(f"{family}: recall {hits / planted:.3f}, precision {hits / drawn:.3f} over {len(SEEDS)} models")
    assert hits / planted >= 0.95
    assert hits / drawn >= 0.95


def test_the_planted_circuit_is_faithful_and_random_ones_are_not(tmp_path: Path) -> None:
    truth = plant(tmp_path / "m", "llama", 0)
    model = nv.load(str(truth.folder))
    task = task_of(model, 0, "test")
    result = faithfulness(model, task, Nodes.of(model, truth.heads, truth.neurons))
    assert result.f == pytest.approx(1, abs=0.1) and result.completeness > 0.9
    assert result.random_max < 0.2
    one = faithfulness(model, task, Nodes.of(model, truth.heads, truth.neurons[:1]), n_random=0)
    assert 0.1 < one.f < 0.8  # a third of the neurons is not the circuit


def test_measured_effects_follow_the_chain(tmp_path: Path) -> None:
    truth = plant(tmp_path / "m", "gpt2", 3)
    model = nv.load(str(truth.folder))
    task = task_of(model, 3)
    graph = circuit(model, task=task, nodes=Nodes.of(model, truth.heads, truth.neurons), n_inputs=4).graph
    head, other = (f"head:L{layer}.H{h}" for layer, h in truth.heads)
    first, second, third = (f"neuron:L{layer}.{k}" for layer, k in truth.neurons)
    for source, target in ((head, first), (other, second), (head, third)):
        edge = graph.edges[source, target]
        # ablation takes the neuron's activity away, and the interval says so
        assert edge["measured"] < 0 and edge["hi"] < 0 and edge["attributed"] > 0
    for source, target in ((head, second), (other, first)):
        assert abs(graph.edges[source, target]["measured"]) < 0.1 * abs(graph.edges[head, first]["measured"])
    # the trigger reaches the neuron through the head alone: nothing by the direct path, all of it by all paths
    through = graph.edges[f"input:{TRIGGER}", first]
    assert abs(through["attributed"]) < 0.1 * abs(through["total"]) and through["measured"] < 0
    assert graph.edges[first, "value:power"]["measured"] < 0 < graph.edges[first, "value:power"]["attributed"]
