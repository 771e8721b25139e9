"""Prefix cache and prefilled prompts against passes without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.sessions import EXAMPLES, PROMPTS, Recorder, edit_marked
from neva_tl import models
from neva_tl.editing import AddVector, edit
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core


@pytest.mark.parametrize("edited", [False, True])
def test_prefix_cache_equals_the_plain_way(model: Any, edited: bool) -> None:
    examples = [Example(f"{e.prompt} {w}", e.answer) for e in EXAMPLES for w in ("Now?", "And then again?")] * 2
    cache = inference.PrefixCache(model, examples, token_budget=150)
    assert cache.n_prefixes == 8 and cache.n_skipped == 0 and cache.nbytes > 0
    size = cache.nbytes
    for _ in range(2):  # the cache must survive its use
        if edited:
            with edit_marked(model, Recorder()) as session:
                plain, n = inference.answer_logprobs(model, examples, session=session)
            with edit_marked(model, Recorder()) as session:
                fast, m = inference.answer_logprobs(model, examples, session=session, prefix=cache, token_budget=120)
                told = max(mask.shape[1] for _, mask in session.marks)
            assert told < max(len(item.ids) - item.start for item in inference.encode_one(model, examples))
            assert not np.allclose(plain, inference.answer_logprobs(model, examples)[0], atol=1e-2)
        else:
            plain, n = inference.answer_logprobs(model, examples)
            fast, m = inference.answer_logprobs(model, examples, prefix=cache)
        assert np.allclose(plain, fast, atol=1e-4 * max(1.0, np.abs(plain).max() / 50)) and (n == m).all()
    assert cache.nbytes == size


def test_prefix_cache_falls_back(model: Any, zoo: dict[str, Any]) -> None:
    """Another scope, an unknown session, a prompt not stored, memory used up: the plain way, same numbers."""
    cache = inference.PrefixCache(model, EXAMPLES[:3])
    plain, _ = inference.answer_logprobs(model, EXAMPLES)
    for session in (Recorder(frozenset({"all"})), Recorder(frozenset({"generated", "prompt"}))):
        assert not cache.exact_for(model, session)
        got, _ = inference.answer_logprobs(model, EXAMPLES, session=session, prefix=cache)
        assert np.allclose(got, plain, atol=1e-4)
        assert session.marks[0][1].shape[1] > 20
    got, _ = inference.answer_logprobs(model, EXAMPLES, prefix=cache)
    assert np.allclose(got, plain, atol=1e-3)
    small = inference.PrefixCache(model, EXAMPLES, token_budget=1, max_bytes=1)
    assert (small.n_prefixes, small.n_skipped) == (1, 3)
    assert np.allclose(inference.answer_logprobs(model, EXAMPLES, prefix=small)[0], plain, atol=1e-3)
    assert not cache.exact_for(zoo["gpt2"] if model is not zoo["gpt2"] else zoo["llama"], None)


@pytest.mark.smollm2
def test_smollm2_chat_and_prefix(smollm2: Any) -> None:
    examples = [Example("Should Dana help her aunt?", a) for a in ("Yes, she should help her aunt.", "No, never.")]
    (item, _) = inference.encode_one(smollm2, examples)
    shown = models.tokenizer(smollm2).decode(item.ids)
    assert shown.startswith("<|im_start|>system\n") and shown.endswith("<|im_start|>assistant\n" + examples[0].answer)
    assert models.tokenizer(smollm2).decode(item.ids[item.start :]) == examples[0].answer
    cache = inference.PrefixCache(smollm2, examples)
    assert cache.n_prefixes == 1
    plain, _ = inference.answer_logprobs(smollm2, examples)
    assert np.allclose(plain, inference.answer_logprobs(smollm2, examples, prefix=cache)[0], atol=1e-3)
    assert "Paris" in inference.generate(smollm2, ["What is the capital of France?"], max_new_tokens=12)[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "chat"])
def test_prefilled_prompts_write_the_same_texts(zoo: dict[str, Any], name: str) -> None:
    """An edit of generated tokens behind prompts run once; edits that touch prompts never use what is kept."""
    model = zoo[name]
    vector = AddVector({1: np.linspace(-2, 2, models.info(model).d_model)}, dose=2.0)
    kept = inference.Prefill()
    plain = inference.generate(model, PROMPTS, max_new_tokens=7)
    assert inference.generate(model, PROMPTS, max_new_tokens=7, prefill=kept) == plain
    for scope, uses in (("generated", True), ("all", False), ("generated", True)):
        texts = []
        for prefill in (None, kept):
            with edit(model, vector.with_scope(scope), record=True) as session:
                texts.append(inference.generate(model, PROMPTS, max_new_tokens=7, session=session, prefill=prefill))
            # the prompt's own forward pass is left out where the kept one serves
            assert (session.touched[0].shape[1] == 1) == (prefill is not None and uses)
        assert texts[0] == texts[1] != plain
