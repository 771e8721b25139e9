"""Log-probabilities and KL divergence against plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from helpers.sessions import EXAMPLES, Recorder
from neva_tl import models
from neva_tl.models import inference
from neva_tl.prompts.example import Example

pytestmark = pytest.mark.core


def by_hand(folder: Path, model: Any, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Sum over answer tokens with plain transformers, one example at a time, no padding."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums, counts = [], []
    for item in inference.encode_one(model, examples):
        with torch.no_grad():
            logprobs = hf(torch.tensor([item.ids])).logits[0].log_softmax(-1)
        sums.append(sum(float(logprobs[t - 1, item.ids[t]]) for t in range(item.start, len(item.ids))))
        counts.append(len(item.ids) - item.start)
    return np.array(sums), np.array(counts)


@pytest.mark.parametrize("name", ["llama", "gpt2", "chat"])
def test_answer_logprobs(zoo: dict[str, Any], folders: dict[str, Path], name: str) -> None:
    want, counts = by_hand(folders[name], zoo[name], EXAMPLES)
    for budget in (1, 90, 4096):
        got, n = inference.answer_logprobs(zoo[name], EXAMPLES, token_budget=budget)
        assert np.allclose(got, want, atol=1e-3) and (n == counts).all()


def test_sessions_are_told_the_answer(zoo: dict[str, Any]) -> None:
    session = Recorder()
    inference.answer_logprobs(zoo["chat"], EXAMPLES, session=session)
    batch = inference.encode(zoo["chat"], EXAMPLES)
    (generated, mask) = session.marks[0]
    assert generated.sum() == batch.answer.sum() and mask.sum() == batch.mask.sum()


def test_neutral_text(zoo: dict[str, Any], folders: dict[str, Path]) -> None:
    """Every token counts, no chat template; the first after BOS included."""
    texts = ["the quick brown fox", "a", "every child shares bread with strangers and the dog"]
    session = Recorder()
    got = inference.neutral_logprobs(zoo["chat"], texts, session=session)
    for text, values in zip(texts, got, strict=True):
        sums, counts = by_hand(folders["llama"], zoo["llama"], [Example("", text)])
        assert len(values) == counts[0] and np.isclose(values.sum(), sums[0], atol=1e-3)
    assert all((g | ~m).sum() >= m.sum() - len(texts) for g, m in session.marks)


def test_kl(zoo: dict[str, Any]) -> None:
    """Zero without an edit; equal to the sum over the vocabulary by hand with one."""
    model, texts = zoo["llama"], ["the quick brown fox", "every child shares bread"]

    @contextmanager
    def nothing() -> Any:
        yield None

    @contextmanager
    def ablation() -> Any:
        handle = models.add_hook(model, models.hook_name(model, 1, "post"), lambda x, hook=None: x * 0)
        try:
            yield None
        finally:
            handle.remove()

    assert all(np.allclose(values, 0, atol=1e-6) for values in inference.token_kl(model, texts, nothing))
    got = inference.token_kl(model, texts, ablation)
    for text, values in zip(texts, got, strict=True):
        batch = inference.encode(model, [Example("", text)])
        plain = inference.forward_batch(model, batch)
        with ablation():
            edited = inference.forward_batch(model, batch)
        assert plain is not None and edited is not None
        p, q = plain[0, :-1].log_softmax(-1), edited[0, :-1].log_softmax(-1)
        assert np.allclose(values, (p.exp() * (p - q)).sum(-1).numpy(), atol=1e-4)
        assert (values > 0).all()
