"""Gates and log-odds against raw hooks and the softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neva_tl import models
from neva_tl.circuits import Nodes, ValueTask, circuit_effects, mean_activations
from neva_tl.circuits.search.gates import text_log_odds
from neva_tl.models import inference


def test_log_odds_are_the_softmax_s(model: Any, task: ValueTask) -> None:
    odds = text_log_odds(model, task)
    for number, example in enumerate(task.examples[:4]):
        logits = inference.forward_batch(model, inference.encode(model, [example]))
        assert logits is not None
        p = logits[0, -1].double().softmax(-1)[task.ids["power"]].sum()
        assert odds[number, list(task.ids).index("power")] == pytest.approx(float(torch.log(p / (1 - p))), abs=1e-4)


def test_mean_ablation_equals_raw_hooks(model: Any, task: ValueTask) -> None:
    means = mean_activations(model, task)
    nodes = Nodes.of(model, heads=[(0, 1)], neurons=[(1, 3), (2, 5)])
    odds = text_log_odds(model, task, means, nodes)
    facts = models.info(model)
    # by hand: every text alone, no padding, means taken text by text
    runs = []
    for example in task.examples:
        activations: dict[str, torch.Tensor] = {}
        names = [models.hook_name(model, layer, site) for layer in range(facts.n_layers) for site in ("z", "post")]
        handles = [
            models.add_hook(model, n, lambda x, hook=None, n=n, s=activations: s.update({n: x[0].clone()}))
            for n in names
        ]
        inference.forward_batch(model, inference.encode(model, [example]))
        for handle in handles:
            handle.remove()
        runs.append(activations)
    shortest = min(len(next(iter(run.values()))) for run in runs)
    mean = {name: torch.stack([run[name][:shortest] for run in runs]).mean(0) for name in runs[0]}
    short = [i for i, run in enumerate(runs) if len(next(iter(run.values()))) == shortest]
    for number in short:
        handles = []
        for layer in range(facts.n_layers):
            for site in ("z", "post"):
                name = models.hook_name(model, layer, site)
                mask = (nodes.heads[layer][:, None] if site == "z" else nodes.neurons[layer]).expand(
                    mean[name].shape[1:]
                )
                handles.append(
                    models.add_hook(model, name, lambda x, hook=None, n=name, k=mask: torch.where(k, x, mean[n][None]))
                )
        logits = inference.forward_batch(model, inference.encode(model, [task.examples[number]]))
        for handle in handles:
            handle.remove()
        assert logits is not None
        p = logits[0, -1].double().softmax(-1)[task.ids["power"]].sum()
        assert odds[number, list(task.ids).index("power")] == pytest.approx(float(torch.log(p / (1 - p))), abs=1e-4)


def test_hooks_come_off_and_nothing_changes(model: Any, task: ValueTask) -> None:
    before = text_log_odds(model, task)
    means = mean_activations(model, task)
    circuit_effects(model, task, Nodes.of(model, heads=[(0, 1)], neurons=[(1, 3)]), means=means, n_inputs=2)
    assert np.array_equal(before, text_log_odds(model, task))
    assert np.allclose(before, text_log_odds(model, task, means, ~Nodes.none(model)), atol=1e-6)
