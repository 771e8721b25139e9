"""Forward passes: forms that agree, scored tokens, stopping early, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neva_tl import models

pytestmark = pytest.mark.core
FAMILIES = ("llama", "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_forms_agree(loaded: dict[str, Any], family: str) -> None:
    model = loaded[family]
    tokens = torch.randint(4, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, :4] = False
    whole = models.forward(model, tokens, mask)
    assert whole is not None
    some = models.forward(model, tokens, mask, positions=torch.tensor([5, 8]))
    assert some is not None and torch.allclose(some, whole[:, [5, 8]], atol=1e-4)
    past = models.KVCache()
    parts = [models.forward(model, tokens[:, i:j], mask[:, i:j], past=past) for i, j in ((0, 5), (5, 6), (6, 9))]
    assert torch.allclose(torch.cat(parts, 1)[mask], whole[mask], atol=1e-4)  # type: ignore[arg-type]
    assert models.forward(model, tokens, mask, logits=False) is None
    assert models.forward(model, tokens, mask, stop_at_layer=1) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_runs_on_scored_tokens_alone(loaded: dict[str, Any], family: str) -> None:
    model = loaded[family]
    tokens = torch.randint(4, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    scored = torch.zeros_like(mask)
    scored[0, 7:], scored[2, 2] = True, True
    whole = models.forward(model, tokens, mask)
    widths: list[int] = []
    head = getattr(model.unembed, "original_component", model.unembed)
    handle = head.register_forward_pre_hook(lambda m, args: widths.append(args[0].shape[0] * args[0].shape[1]))
    some = models.forward(model, tokens, mask, scored=scored)
    handle.remove()
    assert whole is not None and some is not None and widths[-1] == 3
    assert torch.allclose(some, whole[scored], atol=1e-4)
    again = models.forward(model, tokens, mask)
    assert again is not None and again.shape == whole.shape


def test_stop_at_layer_runs_no_later_block(loaded: dict[str, Any]) -> None:
    model = loaded["llama"]
    tokens = torch.tensor([[5, 60, 200]])
    fired: list[int] = []
    handles = [
        models.add_hook(model, models.hook_name(model, i, "post"), lambda x, hook=None, i=i: fired.append(i))
        for i in range(3)
    ]
    models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool), stop_at_layer=2)
    for handle in handles:
        handle.remove()
    assert fired == [0, 1]


def test_gradients_reach_activations_when_asked(loaded: dict[str, Any]) -> None:
    model = loaded["llama"]
    tokens = torch.tensor([[5, 60, 200]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    held: list[torch.Tensor] = []

    def leaf(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
        held.append(x.detach().requires_grad_(True))
        return held[-1]

    handle = models.add_hook(model, models.hook_name(model, 1, "post"), leaf)
    out = models.forward(model, tokens, mask, grad=True)
    plain = models.forward(model, tokens, mask)
    handle.remove()
    assert out is not None and plain is not None and not plain.requires_grad
    out[0, -1, 7].backward()
    assert held[0].grad is not None and held[0].grad.abs().sum() > 0
