"""Ablate(mode="resample"): the draw comes from real tokens of the same text's prompt, in every batch and with every cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.editing import Ablate, edit
from neva_tl.models import inference
from neva_tl.models.inference.sampling import SamplingSettings, decode
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core

AT = [(1, 7), (1, 2)]
EXAMPLE = Example("Who eats the bread?", "Tom eats it")
LONGER = Example("The old king counts his coins and", "laughs, and laughs, and laughs")


def at_post(model: Any, batch: inference.Batch, *edits: Any) -> Tensor:
    """`hook_post` of layer 1 as the edits left it."""
    seen: list[Tensor] = []
    with edit(model, *edits):
        handle = models.add_hook(model, models.hook_name(model, 1, "post"), lambda x, hook=None: seen.append(x.clone()))
        try:
            inference.forward_batch(model, batch)
        finally:
            handle.remove()
    return seen[0]


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_token_gets_another_real_token_of_its_own_prompt(tiny: Any, make_set: Any, side: str) -> None:
    batch = inference.encode(tiny, [EXAMPLE, LONGER, Example("", "Tom shares his bread")], padding_side=side)
    clean = at_post(tiny, batch)
    new = at_post(tiny, batch, Ablate(make_set(tiny, AT), mode="resample", seed=5))
    for row in range(len(batch)):
        real, prompt = batch.mask[row], batch.mask[row] & ~batch.answer[row]
        pool = prompt if int(prompt.sum()) > 1 else real
        sources = clean[row, pool][:, [7, 2]]
        for position in real.nonzero().flatten().tolist():
            drawn = (sources == new[row, position, [7, 2]]).all(dim=1)
            assert int(drawn.sum()) == 1, "both neurons come from one token of the pool"
            if pool[position]:
                assert not torch.equal(new[row, position, [7, 2]], clean[row, position, [7, 2]])
    others = [k for k in range(clean.shape[-1]) if k not in (7, 2)]
    assert torch.equal(new[..., others], clean[..., others])


def test_the_draw_is_seeded_and_uniform(tiny: Any, make_set: Any) -> None:
    neurons, batch = make_set(tiny, AT), inference.encode(tiny, [LONGER])
    one, again, other = (at_post(tiny, batch, Ablate(neurons, mode="resample", seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    clean = at_post(tiny, batch)
    half = at_post(tiny, batch, Ablate(neurons, mode="resample", seed=5, dose=0.5))
    torch.testing.assert_close(half, (clean + one) / 2)
    # the neuron keeps its mean over seeds, at a token outside the pool
    pool = clean[0, batch.mask[0] & ~batch.answer[0], 7]
    end = int(batch.answer[0].nonzero()[0])
    draws = [float(at_post(tiny, batch, Ablate(neurons, mode="resample", seed=s))[0, end, 7]) for s in range(60)]
    assert abs(np.mean(draws) - float(pool.mean())) < 4 * float(pool.std()) / 60**0.5
    assert len(set(draws)) > len(pool) // 2


@pytest.mark.parametrize("scope", ["all", "generated", "last", "prompt"])
def test_texts_are_the_same_with_and_without_cache_alone_and_in_a_batch(tiny: Any, make_set: Any, scope: Any) -> None:
    info = models.info(tiny)
    every = [(layer, k) for layer in range(info.n_layers) for k in range(info.d_mlp)]
    item = Ablate(make_set(tiny, every), mode="resample", scope=scope)
    prompts = ["Who eats the bread?", "Why is it", "The old king counts his coins and"]
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "stop_at_eos": False}
    unedited = inference.generate(tiny, prompts, **options)
    with edit(tiny, item):
        cached = inference.generate(tiny, prompts, **options)
        assert inference.generate(tiny, prompts, cache=False, **options) == cached
        assert inference.generate(tiny, prompts, batch_size=1, **options) == cached
        together, _ = inference.answer_logprobs(tiny, [EXAMPLE, LONGER])
        alone = [inference.answer_logprobs(tiny, [x])[0][0] for x in (EXAMPLE, LONGER)]
        prefix = inference.PrefixCache(tiny, [EXAMPLE, LONGER])
        shared, _ = inference.answer_logprobs(tiny, [EXAMPLE, LONGER], prefix=prefix)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(shared, alone, atol=1e-4)
    assert all(a != b for a, b in zip(cached, unedited, strict=True))


def test_a_prompt_of_one_token_is_refused(tiny: Any, make_set: Any) -> None:
    item = Ablate(make_set(tiny, AT), mode="resample", scope="generated")
    bos = torch.tensor([[0]])
    for cache in (True, False):
        with pytest.raises(InputError, match="single token: use a longer prompt"), edit(tiny, item):
            decode(
                tiny, bos, torch.ones_like(bos, dtype=torch.bool), [0], SamplingSettings(3, 0.0, 0, frozenset(), cache)
            )
