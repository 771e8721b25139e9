"""The output head, from the residual stream to logits: final norm, unembedding, bias, scale and soft cap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.models.checkpoint import trial_tokens
from neva_tl.models.comparison import rounding
from neva_tl.models.facts import MEMO, info, weight_check_key
from neva_tl.models.forward_pass import forward
from neva_tl.models.hf_config import text_config
from neva_tl.models.hooks import hook_name, record_hooks
from neva_tl.models.types import Model
from neva_tl.models.weights import b_u, final_norm, logit_soft_cap, w_u


def logits_of(
    model: Model, stream: Float[Tensor, "*rows d_model"], *, cap: bool = True, tokens: Sequence[int] | None = None
) -> Float[Tensor, "*rows k"]:
    """Logits (float32) of residual vectors through final norm, unembedding, bias, scale and soft cap.

    For the stream after the last block these are the model's own logits.

    Args:
        model: The model.
        stream: Vectors of the residual stream.
        cap: False returns the logits before the soft cap.
        tokens: Ids of the tokens whose logits are returned, in this order; None returns those of the whole vocabulary.

    Raises:
        InputError: The head of the model does more (see `logit_scale`).

    Example:
        >>> import torch
        >>> tuple(nv.models.logits_of(model, torch.zeros(2, 128)).shape)
        (2, 1001)
    """
    logits = logit_scale(model) * _unscaled(model, stream, tokens)
    return _capped(model, logits) if cap else logits


def logit_scale(model: Model) -> float:
    """The factor by which a model multiplies its logits (Cohere, Granite); 1 on most architectures.

    One pass of 6 tokens, once per model, compares the logits with those of final norm, unembedding, bias, scale and cap.
    The scale is the one of the config's settings, or 1, that agrees with the model; the config alone is not enough, since
    some architectures do not use theirs (MPT).

    Args:
        model: The model.

    Raises:
        InputError: None agrees: the head of the model does more, so that no attribution to logits adds up.

    Example:
        >>> nv.models.logit_scale(model)
        1.0
    """
    scale: float = MEMO.get(model, weight_check_key(model, "head"), lambda: _matching_scale(model))
    return scale


def _matching_scale(model: Model) -> float:
    facts = info(model)
    last = hook_name(model, facts.n_layers - 1, "resid_post")
    tokens = trial_tokens(facts.d_vocab, next(model.parameters()).device)[:1]
    with record_hooks(model, [last]) as activations:
        logits = forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
    gap = float("inf")
    scale = 1.0
    if logits is not None and last in activations:
        unscaled = _unscaled(model, activations[last])
        if unscaled.shape == logits.shape:
            gap, scale = min((_gap(_capped(model, scale * unscaled), logits), scale) for scale in _scales(model))
    if not gap <= rounding(next(model.parameters()).dtype):
        raise InputError(
            f"the logits of {facts.name} ({facts.architecture}) differ by {gap:.2g} of their norm from final norm, "
            "unembedding, bias, scale and cap: its output head does more, so that attribution to logits would be wrong; use "
            "measured effects (ablation_effects)"
        )
    return scale


def _scales(model: Model) -> Iterator[float]:
    """1, and the scales that the config names."""
    yield 1.0
    config = text_config(getattr(getattr(model, "original_model", None), "config", None))
    for name, divides in (("logit_scale", False), ("lm_head_multiplier", False), ("logits_scaling", True)):
        number = getattr(config, name, None)
        if isinstance(number, int | float) and number > 0:
            yield 1 / number if divides else float(number)


def _gap(ours: Tensor, own: Tensor) -> float:
    """Relative difference of two sets of logits up to a constant per row, which a processed head may add."""
    ours, own = (x.double() - x.double().mean(dim=-1, keepdim=True) for x in (ours, own.to(ours.device)))
    return float((ours - own).norm() / own.norm().clamp_min(1e-30))


def _unscaled(model: Model, stream: Tensor, tokens: Sequence[int] | None = None) -> Tensor:
    kind, weight, bias, eps = final_norm(model)
    x = stream.float()
    if kind == "layernorm":
        x = x - x.mean(dim=-1, keepdim=True)
    if kind != "none":
        x = x / (x.pow(2).mean(dim=-1, keepdim=True) + eps).sqrt() * weight.float()
    if bias is not None:
        x = x + bias.float()
    weight, bias = w_u(model), b_u(model)
    if tokens is not None:
        columns = torch.tensor(list(tokens), device=weight.device)
        # bias may be on another device where a model is spread over several
        weight, bias = weight.index_select(1, columns), bias.index_select(0, columns.to(bias.device))
    return x @ weight.float() + bias.float()


def _capped(model: Model, logits: Tensor) -> Tensor:
    cap = logit_soft_cap(model)
    return cap * torch.tanh(logits / cap) if cap > 0 else logits
