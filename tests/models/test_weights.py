"""Weights, final norm and activation function in TransformerLens's layout, against the plain transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from neva_tl import models

pytestmark = pytest.mark.core

FAMILIES = ("llama", "gpt2")


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_the_checkpoints(loaded: dict[str, Any], folders: dict[str, Path], family: str) -> None:
    model, hf = loaded[family], AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32)
    for layer in range(3):
        if family == "llama":
            mlp = hf.model.layers[layer].mlp
            assert torch.equal(models.w_out(model, layer), mlp.down_proj.weight.T)
            assert torch.equal(models.w_in(model, layer), mlp.up_proj.weight.T)
            gate = models.w_gate(model, layer)
            assert gate is not None and torch.equal(gate, mlp.gate_proj.weight.T)
        else:
            mlp = hf.transformer.h[layer].mlp
            assert torch.equal(models.w_out(model, layer), mlp.c_proj.weight)
            assert torch.equal(models.w_in(model, layer), mlp.c_fc.weight)
            assert models.w_gate(model, layer) is None
    assert torch.equal(models.w_u(model), hf.lm_head.weight.T)
    assert torch.equal(models.w_e(model), hf.get_input_embeddings().weight)
    assert not models.b_u(model).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_final_norm_and_unembedding_give_the_logits(loaded: dict[str, Any], family: str) -> None:
    """The last residual through `final_norm` and `w_u` by hand equals the model's logits."""
    model = loaded[family]
    tokens = torch.tensor([[5, 60, 200, 7]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    seen: list[torch.Tensor] = []
    handle = models.add_hook(model, models.hook_name(model, 2, "resid_post"), lambda x, hook=None: seen.append(x))
    logits = models.forward(model, tokens, mask)
    handle.remove()
    kind, weight, bias, eps = models.final_norm(model)
    x = seen[0]
    if kind == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight
    x = x if bias is None else x + bias
    assert logits is not None
    assert torch.allclose(x @ models.w_u(model) + models.b_u(model), logits, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_activation_of_pre(loaded: dict[str, Any], family: str) -> None:
    """hook_post = act(pre) ungated, act(gate) * up gated."""
    model = loaded[family]
    tokens = torch.tensor([[5, 60, 200, 7]])
    seen: dict[str, torch.Tensor] = {}
    sites = ("post", "pre", "up") if family == "llama" else ("post", "pre")
    handles = [
        models.add_hook(model, models.hook_name(model, 1, s), lambda x, hook=None, s=s: seen.update({s: x}))
        for s in sites
    ]
    models.forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool), logits=False)
    for handle in handles:
        handle.remove()
    want = models.activation(model)(seen["pre"]) * seen.get("up", torch.ones(()))
    assert torch.allclose(seen["post"], want, atol=1e-6)
