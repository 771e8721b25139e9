"""Selector causal: the direct effect by hand algebra, the gradient's by finite difference."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neva_tl import models
from neva_tl.activations import collect
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.models import inference
from neva_tl.models.hooks import temporary_hooks
from neva_tl.prompts.contrast import examples_of
from neva_tl.selection import select
from neva_tl.selection.causal import direct_effect, gradient_effect, own_tokens
from neva_tl.selection.planted import World, make_world

pytestmark = pytest.mark.core


@cache
def world() -> World:
    return make_world(5, d_mlp=128, calibration=300)


@cache
def stats() -> Any:
    return collect(world().model, world().contrast(40, 2), split=None, samples=True)


def some() -> NeuronSet:
    """Two writers and three other neurons, at several layers."""
    writers = [one.neuron for one in world().plants if one.kind == "writer" and one.values == ("power",)][:2]
    other = next(n for n in range(128) if n not in {one.neuron for one in world().plants})
    df = pd.DataFrame({"layer": [3, 3, 3, 1, 0], "neuron": [*writers, other, 4, 9]})
    df = df.assign(mean_plus=[1.0, 0.5, 2.0, 1.0, 1.5], mean_minus=[0.0, 0.0, 0.5, 2.0, 0.0], sd=1.0, score=0.0)
    return NeuronSet("power", "t", df, 4, 128)


def test_direct_effect_is_the_logits_change_with_the_norm_frozen() -> None:
    model, neurons = world().model, some()
    tokens = own_tokens(model, stats().values, "power", world().words)
    assert models.tokenizer(model).convert_ids_to_tokens(tokens) == world().words["power"]
    effect, p = direct_effect(model, neurons, tokens)
    head = models.w_u(model).double().numpy() * models.final_norm(model).weight.double().numpy()[:, None]
    rng = np.random.default_rng(0)
    for i, row in enumerate(neurons.df.itertuples()):
        step = (row.mean_plus - row.mean_minus) * models.w_out(model, row.layer)[row.neuron].double().numpy()
        change = step @ head
        change -= change.mean()
        assert effect[i] == pytest.approx(change[tokens].mean(), rel=1e-4, abs=1e-7)
        drawn = np.array([rng.choice(change, len(tokens), replace=False).mean() for _ in range(3000)])
        # the spread of random token sets, by drawing them
        z = effect[i] / drawn.std()
        from scipy.stats import norm

        assert p[i] == pytest.approx(norm.sf(z), abs=0.03)
    assert (p[:2] < 1e-6).all() and (p[2:] > 1e-3).all()


def mean_logits(examples: Any, tokens: Any, shift: tuple[int, int, float] | None = None) -> float:
    """Mean over examples and answer tokens of the tokens' mean logit, with one neuron moved at answer tokens."""
    model, total = world().model, 0.0
    for example in examples:
        batch = inference.encode(model, [example])

        def add(x: torch.Tensor, hook: Any = None, batch: Any = batch) -> torch.Tensor:
            assert shift is not None
            x = x.clone()
            x[..., shift[1]] += shift[2] * batch.answer
            return x

        with temporary_hooks(model, [] if shift is None else [(models.hook_name(model, shift[0], "post"), add)]):
            logits = inference.forward_batch(model, batch)
        assert logits is not None
        total += float(logits.double()[..., tokens].mean(-1)[batch.answer].mean())
    return total / len(examples)


def test_gradient_effect_is_the_slope_of_the_logits() -> None:
    neurons, model = some(), world().model
    examples = examples_of(stats().samples.table.head(4))
    tokens = own_tokens(model, stats().values, "power", world().words)
    effect, p = gradient_effect(model, neurons, examples, tokens, draws=6, seed=3)
    rest = np.setdiff1d(np.arange(models.info(model).d_vocab), tokens)
    rng = np.random.default_rng(3)
    sets = [rng.choice(rest, len(tokens), replace=False).tolist() for _ in range(6)]
    for i, row in enumerate(neurons.df.itertuples()):
        slopes = []
        for ids in (tokens, *sets):
            high, low = (mean_logits(examples, ids, (row.layer, row.neuron, s)) for s in (0.02, -0.02))
            slopes.append((high - low) / 0.04)
        expected = (slopes[0] - np.mean(slopes[1:])) * (row.mean_plus - row.mean_minus)
        assert effect[i] == pytest.approx(expected, rel=0.05, abs=2e-3)
    assert (p[:2] < 0.01).all()


@pytest.mark.parametrize("path", ["direct", "gradient"])
def test_writers_come_first(path: str) -> None:
    options = {"texts": 16, "draws": 8} if path == "gradient" else {}
    found = select(stats(), "power", method="causal", model=world().model, words=world().words, path=path, **options)
    kinds = {(one.layer, one.neuron): one.kind for one in world().plants}
    got = [kinds.get(at, "none") for at in zip(found.df["layer"], found.df["neuron"], strict=True)]
    assert set(got) <= {"writer", "shared"} and got.count("writer") >= 5
    assert (found.df["effect"] > 0).all() and (found.df["q_write"] <= 0.05).all()
    np.testing.assert_allclose(found.df["score"], found.df["effect"] * found.df["specific"])
    assert {"g", "lo", "hi", "p", "q", "split_half"} <= set(found.df)


def test_refusals() -> None:
    model, words = world().model, world().words
    from dataclasses import replace

    same = {value: ["filler1"] for value in ("power", "security")}
    bare = replace(stats(), samples=None, texts=None)
    for message, call in {
        "pass model=": lambda: select(stats(), "power", method="causal"),
        "unknown path": lambda: select(stats(), "power", method="causal", model=model, words=words, path="magic"),
        "no words for power": lambda: select(stats(), "power", method="causal", model=model, words={"security": ["x"]}),
        "claimed by another": lambda: own_tokens(model, list(same), "power", same),
        "with_texts": lambda: select(bare, "power", method="causal", model=model, words=words, path="gradient"),
        "at least two draws": lambda: gradient_effect(model, some(), [], [3], draws=1),
        "site post": lambda: select(stats(), "power", method="causal", model=model, site="gate"),
    }.items():
        with pytest.raises(InputError, match=message):
            call()
