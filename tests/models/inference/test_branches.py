"""Logits over shared prefixes against one full prompt at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError
from neva_tl.models.inference import branches
from neva_tl.models.inference.branches import branch_logits

pytestmark = pytest.mark.core

#: Trees of unequal trunks, stems and leaves; a branch of one prompt, and a stem that is all of the trunk.
TREES = [
    [
        [(5, 6, 7, 8, 20, 30, 31), (5, 6, 7, 8, 20, 40)],
        [(5, 6, 7, 8, 21, 22, 23, 41), (5, 6, 7, 8, 21, 22, 23, 50, 51)],
    ],
    [[(9, 10, 60, 61, 62)], [(9, 10, 63), (9, 10, 64)]],
    [[(70, 71, 72, 73, 74, 75, 76, 77, 78), (70, 71, 72, 73, 74, 75, 76, 77, 79)]],
]


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_logits_equal_those_of_whole_prompts(model: Any, budget: int) -> None:
    asked = [3, 100, 7]
    received: dict[int, np.ndarray] = {}
    out = branch_logits(
        model, TREES, asked, token_budget=budget, update=lambda rows, x: received.update(zip(rows, x, strict=True))
    )
    for number, (tree, logits) in enumerate(zip(TREES, out, strict=True)):
        prompts = [ids for branch in tree for ids in branch]
        assert logits.shape == (len(prompts), 3) and logits.dtype == np.float32
        assert np.array_equal(received[number], logits)
        for ids, row in zip(prompts, logits, strict=True):
            tokens = torch.tensor([ids])
            full = models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
            assert full is not None
            assert np.allclose(row, full[0, -1, asked].numpy(), atol=1e-5)


def test_shared_tokens_run_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    n_run = []
    run = branches.run_prompts

    def counting(model: Any, tokens: Any, mask: Any, *args: Any, **options: Any) -> Any:
        n_run.append(int(mask.sum()))
        return run(model, tokens, mask, *args, **options)

    monkeypatch.setattr(branches, "run_prompts", counting)
    branch_logits(model, TREES[:1], [0])
    # trunk 5 6 7 8; stems 20 and 21 22 23; leaves 30 31, 40, 41, 50 51
    assert n_run == [4, 4, 6]
    n_run.clear()
    # two texts that begin with 5 6: that runs once, even where each text is a batch of its own
    branch_logits(model, [[[(5, 6, 7, 8, 9)]], [[(5, 6, 10, 11)]]], [0], token_budget=1)
    assert n_run == [2, 1, 1, 2, 1]


def test_edited_models_and_unrelated_prompts_are_refused(model: Any) -> None:
    handle = models.add_hook(model, models.hook_name(model, 0, "post"), lambda x, **_: x)
    try:
        with pytest.raises(InputError, match="carries hooks"):
            branch_logits(model, TREES, [0])
    finally:
        handle.remove()
    with pytest.raises(InputError, match="share no token"):
        branch_logits(model, [[[(1, 2), (3, 4)]]], [0])
