"""Scores, search and faithfulness against exact sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.circuit_tasks import m_of
from neva_tl.circuits import (
    Nodes,
    ValueTask,
    circuit_effects,
    faithfulness,
    find_circuits,
    gate_scores,
    mean_activations,
)
from neva_tl.core.errors import InputError


def test_scores_sum_to_the_whole_effect(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    full, none = ~Nodes.none(model), Nodes.none(model)
    effect = m_of(model, task, means, full) - m_of(model, task, means, none)
    assert float(gate_scores(model, task, means, full, steps=32).sum()) == pytest.approx(effect, rel=0.02)
    subset = Nodes.of(model, heads=[(0, 0), (0, 1), (0, 3)], neurons=[(1, k) for k in range(48)])
    part_effect = m_of(model, task, means, subset) - m_of(model, task, means, none)
    scores = gate_scores(model, task, means, subset, steps=32)
    assert float(scores.sum()) == pytest.approx(part_effect, rel=0.02, abs=0.02)
    assert not scores[~subset.flat()].any()


def test_search_gives_nested_sizes_and_is_repeatable(model: Any, task: ValueTask) -> None:
    first = find_circuits(model, task, [4, 12], exchanges=2, batch=None)
    again = find_circuits(model, task, [4, 12], exchanges=2, batch=None)
    for size in (4, 12):
        assert len(first[size].nodes) == size
        assert torch.equal(first[size].nodes.flat(), again[size].nodes.flat())
        assert not first[size].shares[~first[size].nodes.flat()].any()
    result = faithfulness(model, task, first[12].nodes, n_random=3)
    assert result.f == pytest.approx(first[12].f, abs=1e-4)
    assert result.f_lo <= result.f <= result.f_hi and result.n_heads + result.n_neurons == 12
    full = faithfulness(model, task, ~Nodes.none(model), n_random=0)
    assert full.f == pytest.approx(1) and full.completeness == pytest.approx(1)


def test_nothing_to_explain_is_said(model: Any, task: ValueTask) -> None:
    other = ValueTask("power", task.examples, -task.signs, task.clusters, task.tokens, at="last")
    with pytest.raises(InputError, match="nothing for a circuit to explain"):
        find_circuits(model, other, [5])
    with pytest.raises(InputError, match="F is not defined"):
        faithfulness(model, other, Nodes.none(model))
    with pytest.raises(InputError, match="at least 1"):
        find_circuits(model, task, [0])


def test_results_show_themselves(model: Any, task: ValueTask) -> None:
    nodes = Nodes.of(model, heads=[(0, 1)], neurons=[(1, 12)])
    carried = faithfulness(model, task, nodes, n_random=2)
    effects = circuit_effects(model, task, nodes, n_inputs=3)
    for result, word in ((carried, "1 heads and 1 neurons"), (effects, "strongest edges first")):
        assert word in result._repr_html_()
        assert result.show().axes[0].has_data()
