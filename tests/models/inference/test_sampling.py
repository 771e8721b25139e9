"""Random numbers by prompt and position, and the inverse distribution function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.models.inference import sampling
from neva_tl.models.inference.sampling import pick, uniforms

pytestmark = pytest.mark.core


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), prompt=st.integers(0, 10**6), n=st.integers(1, 40))
def test_uniforms_depend_on_seed_prompt_and_place_alone(seed: int, prompt: int, n: int) -> None:
    long, short = uniforms(seed, prompt, n + 7), uniforms(seed, prompt, n)
    assert (long[:n] == short).all() and ((short >= 0) & (short < 1)).all()
    assert uniforms(seed, prompt + 1, 1) != short[0] and uniforms(seed + 1, prompt, 1) != short[0]


def test_uniforms_are_uniform() -> None:
    from scipy.stats import kstest

    draws = np.concatenate([uniforms(3, i, 20) for i in range(200)])
    assert kstest(draws, "uniform").pvalue > 0.001
    first = np.array([uniforms(3, i, 1)[0] for i in range(2000)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.08


def test_pick_is_the_inverse_cdf() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).repeat(6, 1)
    u = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1 - 1e-12], dtype=torch.float64)
    assert pick(logits, 1.0, u).tolist() == [0, 0, 1, 1, 2, 2]
    assert pick(logits, 0.0, u).tolist() == [1] * 6
    # half the temperature squares the odds: .04, .25, .09 over .38
    assert pick(logits, 0.5, torch.full((6,), 0.11)).tolist() == [1] * 6


def test_pick_in_parts_equals_pick_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(7, 501, generator=draw).bfloat16()
    u = torch.rand(7, generator=draw, dtype=torch.float64)
    at_once = pick(logits, 0.7, u)
    for size in (1, 501, 1100):
        monkeypatch.setattr(sampling, "_SAMPLED_AT_ONCE", size)
        assert torch.equal(pick(logits, 0.7, u), at_once)
    by_hand = torch.softmax(logits.double() / 0.7, dim=-1).cumsum(dim=-1)
    assert at_once.tolist() == [int((row <= x * row[-1]).sum()) for row, x in zip(by_hand, u, strict=True)]
