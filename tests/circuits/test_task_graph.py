"""The graph of a task: reading back and pruning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from neva_tl.circuits import CircuitGraph, Nodes, ValueTask, circuit
from neva_tl.core.errors import InputError


def test_graph_of_a_task_reads_back_and_prunes(model: Any, task: ValueTask, tmp_path: Path) -> None:
    nodes = Nodes.of(model, heads=[(0, 1), (0, 3)], neurons=[(1, 12), (1, 24), (2, 1)])
    graph = circuit(model, task=task, nodes=nodes, n_inputs=4, test=task)
    assert graph.meta["faithfulness"]["f"] == pytest.approx(graph.faithfulness(model, task, n_random=0).f, abs=1e-6)
    assert graph.completeness(model, task) == pytest.approx(graph.meta["faithfulness"]["completeness"], abs=1e-6)
    small = graph.prune(0.5)
    assert 0 < small.graph.number_of_edges() < graph.graph.number_of_edges()
    assert torch.equal(small.members(model).flat(), nodes.flat())  # the circuit is what it was, edges are fewer
    back = CircuitGraph.load(graph.save(tmp_path / "x.json"))
    assert back.graph.number_of_edges() == graph.graph.number_of_edges()
    assert json.loads((tmp_path / "x.json").read_text())["meta"]["size"] == 5
    assert "Faithfulness" in graph.summary()
    with pytest.raises(InputError, match="share"):
        graph.prune(0.0)
