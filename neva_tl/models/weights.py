"""Weights of a model in TransformerLens's orientation, whatever the architecture."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.models.facts import info, is_bridge
from neva_tl.models.hf_config import residual_factor
from neva_tl.models.types import FinalNorm, Model


def w_out(model: Model, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """Output projection: row k is what neuron k writes per unit of activation.

    Example:
        >>> tuple(nv.models.w_out(model, 0).shape)
        (384, 128)
    """
    return model.blocks[layer].mlp.W_out


def w_in(model: Model, layer: int) -> Float[Tensor, "d_model d_mlp"]:
    """Input projection (gated MLPs: the linear branch).

    Example:
        >>> tuple(nv.models.w_in(model, 0).shape)
        (128, 384)
    """
    return model.blocks[layer].mlp.W_in


def w_gate(model: Model, layer: int) -> Float[Tensor, "d_model d_mlp"] | None:
    """Gate projection; None on an MLP without gate.

    Example:
        >>> tuple(nv.models.w_gate(model, 0).shape)
        (128, 384)
    """
    return model.blocks[layer].mlp.W_gate if info(model).gated else None


def w_o(model: Model, layer: int) -> Float[Tensor, "n_heads d_head d_model"]:
    """Output projection of each attention head.

    Example:
        >>> tuple(nv.models.w_o(model, 0).shape)
        (4, 32, 128)
    """
    return model.blocks[layer].attn.W_O


def biases(model: Model, layer: int) -> dict[str, Float[Tensor, " width"]]:
    """Biases of a block, zeros where it has none.

    `b_O` and `b_out` (d_model), `b_in` and, on gated MLPs, `b_gate` (d_mlp).

    Example:
        >>> {name: tuple(bias.shape) for name, bias in nv.models.biases(model, 0).items()}
        {'b_O': (128,), 'b_out': (128,), 'b_in': (384,), 'b_gate': (384,)}
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
    """The normalisation in front of a block's MLP (shared with attention in blocks that have only one).

    Kind `none` in blocks that normalise outputs only (OLMo 2).

    Example:
        >>> tuple(nv.models.mlp_norm(model, 0).weight.shape)
        (128,)
    """
    block = model.blocks[layer]
    return _norm(model, getattr(block, "ln2", None) or getattr(block, "ln1", None))


def output_norm(model: Model, layer: int, side: Literal["attn", "mlp"]) -> FinalNorm | None:
    """The normalisation of what a block's attention or MLP writes (Gemma 2, OLMo 2); None without one.

    Example:
        >>> nv.models.output_norm(model, 0, "mlp") is None
        True
    """
    norm = getattr(model.blocks[layer], "ln1_post" if side == "attn" else "ln2_post", None)
    return None if norm is None else _norm(model, norm)


def output_factor(model: Model) -> float:
    """The factor by which blocks multiply what attention and MLP write (Granite); 1 on most architectures.

    Example:
        >>> nv.models.output_factor(model)
        1.0
    """
    return residual_factor(getattr(getattr(model, "original_model", None), "config", None))


def parallel_blocks(model: Model) -> bool:
    """Whether attention and MLP read the same residual stream (a block's heads do not feed its neurons).

    Example:
        >>> nv.models.parallel_blocks(model)
        False
    """
    return bool(getattr(model.cfg, "parallel_attn_mlp", False))


def w_u(model: Model) -> Float[Tensor, "d_model d_vocab"]:
    """Unembedding.

    Example:
        >>> tuple(nv.models.w_u(model).shape)
        (128, 1001)
    """
    return model.unembed.W_U


def b_u(model: Model) -> Float[Tensor, " d_vocab"]:
    """Bias of the unembedding (zeros where the checkpoint has none).

    Example:
        >>> tuple(nv.models.b_u(model).shape)
        (1001,)
    """
    bias = getattr(model.unembed, "b_U", None)
    return torch.zeros_like(w_u(model)[0]) if bias is None else bias


def w_e(model: Model) -> Float[Tensor, "d_vocab d_model"]:
    """Token embedding.

    Example:
        >>> tuple(nv.models.w_e(model).shape)
        (1001, 128)
    """
    return model.embed.W_E


def final_norm(model: Model) -> FinalNorm:
    """The normalisation in front of the unembedding, for logit attribution without compatibility mode.

    Example:
        >>> nv.models.final_norm(model).kind
        'rms'
    """
    return _norm(model, getattr(model, "ln_final", None))


def _norm(model: Model, norm: Any) -> FinalNorm:
    facts = info(model)
    if norm is None:
        return FinalNorm("none", torch.ones(facts.d_model, device=facts.device), None, 0.0)
    weight, bias = getattr(norm, "w", None), getattr(norm, "b", None)
    if weight is None:
        weight = torch.ones(facts.d_model, device=facts.device)
    if getattr(model.cfg, "rmsnorm_uses_offset", False) and is_bridge(model):
        weight = weight + 1
    kind = facts.normalisation
    return FinalNorm(kind, weight, bias if kind == "layernorm" else None, float(model.cfg.eps))


def logit_soft_cap(model: Model) -> float:
    """The c of `c tanh(logits / c)`, by which some architectures bound their logits; 0 without a cap.

    Example:
        >>> nv.models.logit_soft_cap(model)
        0.0
    """
    return max(float(getattr(model.cfg, "output_logits_soft_cap", None) or 0.0), 0.0)
