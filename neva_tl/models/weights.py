"""Weights of a model in TransformerLens's orientation, whatever the architecture."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.models.facts import info, is_bridge
from neva_tl.models.types import FinalNorm, Model


def w_out(model: Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """Output projection: row k is what neuron k writes per unit of activation."""
    return model.blocks[layer].mlp.W_out


def w_in(model: Model, layer: int) -> Float[Tensor, "d_model d_mlp"]:
    """Input projection (gated MLPs: the linear branch)."""
    return model.blocks[layer].mlp.W_in


def w_gate(model: Model, layer: int) -> Float[Tensor, "d_model d_mlp"] | None:
    """Gate projection; None on an MLP without gate."""
    return model.blocks[layer].mlp.W_gate if info(model).gated else None


def w_o(model: Model, layer: int) -> Float[Tensor, "n_heads d_head d_model"]:
    """Output projection of each attention head."""
    return model.blocks[layer].attn.W_O


def biases(model: Model, layer: int) -> dict[str, Float[Tensor, " width"]]:
    """Biases of a block, zeros where it has none.

    `b_O` and `b_out` (d_model), `b_in` and, on gated MLPs, `b_gate` (d_mlp).
    """
    facts = info(model)
    block = model.blocks[layer]
    names = {"b_O": (block.attn, facts.d_model), "b_out": (block.mlp, facts.d_model), "b_in": (block.mlp, facts.d_mlp)}
    if facts.gated:
        names["b_gate"] = (block.mlp, facts.d_mlp)
    like = w_out(model, layer)
    stored = {name: getattr(module, name, None) for name, (module, _) in names.items()}
    zeros = {name: like.new_zeros(width) for name, (_, width) in names.items()}
    return zeros | {name: bias for name, bias in stored.items() if bias is not None}


def mlp_norm(model: Model, layer: int) -> FinalNorm:
    """The normalisation in front of a block's MLP (shared with attention in blocks that have only one)."""
    block = model.blocks[layer]
    return _norm(model, block.ln2 if hasattr(block, "ln2") else block.ln1)


def parallel_blocks(model: Model) -> bool:
    """Whether attention and MLP read the same residual stream (a block's heads do not feed its neurons)."""
    return bool(getattr(model.cfg, "parallel_attn_mlp", False))


def w_u(model: Model) -> Float[Tensor, "d_model d_vocab"]:
    """Unembedding."""
    return model.unembed.W_U


def b_u(model: Model) -> Float[Tensor, " d_vocab"]:
    """Bias of the unembedding (zeros where the checkpoint has none)."""
    bias = getattr(model.unembed, "b_U", None)
    return torch.zeros_like(w_u(model)[0]) if bias is None else bias


def w_e(model: Model) -> Float[Tensor, "d_vocab d_model"]:
    """Token embedding."""
    return model.embed.W_E


def final_norm(model: Model) -> FinalNorm:
    """The normalisation in front of the unembedding, for logit attribution without compatibility mode."""
    return _norm(model, model.ln_final)


def _norm(model: Model, norm: Any) -> FinalNorm:
    facts = info(model)
    weight, bias = getattr(norm, "w", None), getattr(norm, "b", None)
    if weight is None:
        weight = torch.ones(facts.d_model, device=facts.device)
    if getattr(model.cfg, "rmsnorm_uses_offset", False) and is_bridge(model):
        weight = weight + 1
    kind = facts.normalisation
    return FinalNorm(kind, weight, bias if kind == "layernorm" else None, float(model.cfg.eps))


def logit_soft_cap(model: Model) -> float:
    """The c of `c tanh(logits / c)`, by which some architectures bound their logits; 0 without a cap."""
    return max(float(getattr(model.cfg, "output_logits_soft_cap", None) or 0.0), 0.0)


def logits_of(model: Model, stream: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_vocab"]:
    """Logits (float32) of residual vectors through final norm, unembedding and soft cap.

    For the stream after the last block these are the model's own logits, on every architecture whose head is norm, matrix,
    bias and cap (a few scale their logits as well: `attribution.logit_lens` checks, and refuses those).
    """
    kind, weight, bias, eps = final_norm(model)
    x = stream.float()
    if kind == "layernorm":
        x = x - x.mean(dim=-1, keepdim=True)
    if kind != "none":
        x = x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() * weight.float()
    if bias is not None:
        x = x + bias.float()
    out = x @ w_u(model).float() + b_u(model).float()
    cap = logit_soft_cap(model)
    return cap * torch.tanh(out / cap) if cap > 0 else out
