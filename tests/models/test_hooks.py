"""Hooks: names, lifetime, and that they act in the user's own calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neva_tl import models
from neva_tl.core.errors import InputError

pytestmark = pytest.mark.core


def test_hook_names(loaded: dict[str, Any]) -> None:
    assert models.hook_name(loaded["llama"], 2, "post") == "blocks.2.mlp.hook_post"
    with pytest.raises(InputError, match="layer 3"):
        models.hook_name(loaded["llama"], 3, "post")
    with pytest.raises(InputError, match="unknown site"):
        models.hook_name(loaded["llama"], 0, "nowhere")
    with pytest.raises(InputError, match="no gated MLP"):
        models.hook_name(loaded["gpt2"], 0, "gate")
    with pytest.raises(InputError, match="no hook point"):
        models.add_hook(loaded["llama"], "blocks.0.nowhere", lambda x, hook=None: None)


def test_hooks_last_until_removed_and_only_theirs_go(loaded: dict[str, Any]) -> None:
    model = loaded["llama"]
    name = models.hook_name(model, 1, "post")
    tokens = torch.tensor([[5, 60, 200]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    calls: list[str] = []

    def count(label: str) -> Any:
        return lambda x, hook=None: calls.append(label)

    same = count("twice")
    first, second, third = (models.add_hook(model, name, fn) for fn in (same, same, count("other")))
    models.forward(model, tokens, mask)
    model.reset_hooks()
    models.forward(model, tokens, mask)
    assert sorted(calls) == ["other"] * 2 + ["twice"] * 4
    second.remove()
    second.remove()
    calls.clear()
    models.forward(model, tokens, mask)
    assert sorted(calls) == ["other", "twice"]
    first.remove()
    third.remove()
    calls.clear()
    models.forward(model, tokens, mask)
    point = model.hook_dict[name]
    assert not calls and not point.fwd_hooks and not point._forward_hooks


def test_hooks_act_in_the_users_own_calls(loaded: dict[str, Any]) -> None:
    """`model(...)` and `model.generate(...)` see the hook, cached decoding included."""
    model = loaded["llama"]
    tokens = torch.tensor([[5, 60, 200]])
    shapes: list[tuple[int, ...]] = []
    name = models.hook_name(model, 0, "post")
    handle = models.add_hook(model, name, lambda x, hook=None: shapes.append(tuple(x.shape)))
    model(tokens)
    model.generate(tokens, max_new_tokens=3, verbose=False, temperature=0.0, stop_at_eos=False)
    handle.remove()
    assert shapes[0] == (1, 3, 48)
    assert shapes[1:] == [(1, 3, 48), (1, 1, 48), (1, 1, 48)]
