"""Measured effects against single ablations."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.circuit_tasks import m_of, m_of_all
from neva_tl.circuits import Nodes, ValueTask, circuit_effects, mean_activations


def test_measured_effects_on_values_are_single_ablations(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    nodes = Nodes.of(model, heads=[(0, 1)], neurons=[(1, 12)])
    effects = circuit_effects(model, task, nodes, means=means, n_inputs=2).values
    base = m_of_all(model, task)
    for name, without in (
        (("head", 0, 1), Nodes.of(model, [(0, 1)])),
        (("neuron", 1, 12), Nodes.of(model, (), [(1, 12)])),
    ):
        row = effects[[a == name and v == "power" for a, v in zip(effects["source"], effects["value"], strict=True)]]
        assert float(row["measured"].iloc[0]) == pytest.approx(m_of(model, task, means, ~without) - base, abs=1e-4)
        assert float(row["lo"].iloc[0]) <= float(row["measured"].iloc[0]) <= float(row["hi"].iloc[0])
