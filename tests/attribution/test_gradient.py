"""Gradient effects against finite differences of the edited model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.attribution import gradient_effects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.prompts.example import Example

EXAMPLES = [Example("Once upon a time", "there was a big red dog."), Example("", "Lily likes to help her mom.")]
TOKENS = [300, 410, 777]


def metric(model: Any, shift: tuple[int, int, float] | None = None) -> float:
    """Mean over examples of the mean log-probability of the tokens at answer tokens, with one neuron shifted there."""
    total = 0.0
    for example in EXAMPLES:
        batch = inference.encode(model, [example])
        handles = []
        if shift is not None:
            layer, index, size = shift

            def add(
                x: torch.Tensor, hook: Any = None, batch: Any = batch, index: int = index, size: float = size
            ) -> Any:
                x = x.clone()
                x[..., index] += size * batch.answer
                return x

            handles.append(models.add_hook(model, models.hook_name(model, layer, "post"), add))
        logits = inference.forward_batch(model, batch)
        for handle in handles:
            handle.remove()
        assert logits is not None
        logp = logits.double().log_softmax(-1)[..., TOKENS].mean(-1)
        total += float(logp[batch.answer].mean())
    return total / len(EXAMPLES)


def test_gradient_effects_are_the_slope_of_a_shift(stories3m: Any) -> None:
    facts = models.info(stories3m)
    df = pd.DataFrame(
        {
            "layer": [0, 2, 5, 2],
            "neuron": [3, 40, 9, 41],
            "mean_plus": [1.0, 0.5, 0.2, -1.0],
            "mean_minus": [0.0, 0.0, 0.5, 0.0],
        }
    ).assign(sd=1.0, score=1.0)
    neurons = NeuronSet("power", "t", df, facts.n_layers, facts.d_mlp)
    found = gradient_effects(stories3m, neurons, EXAMPLES, TOKENS)
    small = 0.02
    for place, row in df.iterrows():
        at = (int(row["layer"]), int(row["neuron"]))
        slope = (metric(stories3m, (*at, small)) - metric(stories3m, (*at, -small))) / (2 * small)
        expected = slope * (row["mean_plus"] - row["mean_minus"])
        assert found[place] == pytest.approx(expected, rel=0.03, abs=3e-4)
    assert np.isfinite(found).all()


def test_nothing_to_do_is_refused(stories3m: Any) -> None:
    facts = models.info(stories3m)
    df = pd.DataFrame(
        {"layer": [0], "neuron": [3], "mean_plus": [1.0], "mean_minus": [0.0], "sd": [1.0], "score": [1.0]}
    )
    neurons = NeuronSet("power", "t", df, facts.n_layers, facts.d_mlp)
    with pytest.raises(InputError):
        gradient_effects(stories3m, neurons, EXAMPLES, [])
    with pytest.raises(InputError):
        gradient_effects(stories3m, neurons, [], TOKENS)
