"""Compare a loaded model with transformers' own pass, and refuse models that are not causal."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.models.checkpoint import TrialPass, trial_tokens
from neva_tl.models.facts import MEMO, info, is_bridge
from neva_tl.models.forward_pass import forward
from neva_tl.models.hf_model import HookLocations, hook_locations
from neva_tl.models.hooks import hook_name, record_hooks
from neva_tl.models.types import Model, ModelInfo

#: Largest relative difference of two correct passes, per dtype (about 1e-6 in float32 on tiny models of all families).
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}


def compare_with_transformers(model: Model, trial: TrialPass) -> None:
    """Refuse a model that computes something else than its checkpoint.

    One pass of 2 x 6 tokens: logits, and the input of each layer's down projection (`hook_post`).

    Args:
        model: The TransformerLens model.
        trial: The same tokens' pass of transformers' own model.

    Raises:
        InputError: A difference beyond rounding; the message says where and how large.
    """
    facts = info(model)
    names = {hook_name(model, layer, "post"): layer for layer in range(facts.n_layers)}
    locations = _down_projections(model, trial, names)
    device = next(model.parameters()).device
    tokens = trial.tokens.to(device)
    with record_hooks(model, names) as activations:
        logits = forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
    for name, layer in names.items():
        module = locations.get(name, ("", ""))[0]
        if module not in trial.inputs or name not in activations:
            raise InputError(
                f"{facts.name}: no module of transformers' own {facts.architecture} has {name} as its input, so that the neurons "
                f"of layer {layer} cannot be compared: this architecture is not supported"
            )
        gap = _difference(activations[name], trial.inputs[module])
        if not gap <= _limit(trial.logits):
            raise InputError(
                f"{facts.name}: TransformerLens computes other neurons than transformers for this checkpoint: layer {layer}'s "
                f"down-projection input differs by {gap:.2g} of its norm on a short text ({facts.architecture} with these "
                "settings is not supported)"
            )
    if logits is None:  # a full pass always has them
        raise InputError(f"{facts.name} returns no logits")
    MEMO.get(model, "causal", lambda: _refuse_acausal(facts, logits))
    gap = _difference(logits[..., : trial.logits.shape[-1]], trial.logits)
    if not gap <= _limit(trial.logits):
        raise InputError(
            f"{facts.name}: TransformerLens computes other logits than transformers for this checkpoint: they differ by "
            f"{gap:.2g} of their norm on a short text ({facts.architecture} with these settings is not supported)"
        )


def check_causal(model: Model) -> None:
    """Refuse models in which a token sees later ones; one pass of 2 x 6 tokens, once per model.

    Raises:
        InputError: The logits of a token change with a later token.
    """
    MEMO.get(model, "causal", lambda: _check_causal(model))


def _check_causal(model: Model) -> bool:
    facts = info(model)
    tokens = trial_tokens(facts.d_vocab, next(model.parameters()).device)
    return _refuse_acausal(facts, forward(model, tokens, torch.ones_like(tokens, dtype=torch.bool)))


def _refuse_acausal(facts: ModelInfo, logits: Tensor | None) -> bool:
    """Compare two rows that differ in their last token, before it."""
    if logits is not None:
        gap = _difference(logits[0, :-1], logits[1, :-1])
        if not gap <= _limit(logits) / 10:
            raise InputError(
                f"{facts.name} is not a causal language model ({facts.architecture}): the logits of a token change by {gap:.2g} "
                "of their norm with a later token; use a decoder language model"
            )
    return True


def _down_projections(model: Model, trial: TrialPass, names: Mapping[str, int]) -> HookLocations:
    """The transformers module that has each `hook_post` as its input."""
    if is_bridge(model):
        return hook_locations(model, trial.names, names)
    patterns = ("model.layers.{}.mlp.down_proj", "transformer.h.{}.mlp.c_proj")
    return {
        name: (pattern.format(layer), "in")
        for name, layer in names.items()
        for pattern in patterns
        if pattern.format(layer) in trial.inputs
    }


def _difference(x: Tensor, y: Tensor) -> float:
    """Largest relative difference of rows, `[..., k]` each; NaN where one is not finite."""
    x, y = x.detach().float().flatten(0, -2), y.detach().float().flatten(0, -2).to(x.device)
    if x.shape != y.shape:
        return float("inf")
    norms = y.norm(dim=-1)
    # a row of zeros is compared with the typical row
    return float(((x - y).norm(dim=-1) / norms.clamp_min(float(norms.mean()) * 1e-2 + 1e-30)).max())


def _limit(x: Tensor) -> float:
    return rounding(x.dtype)


def rounding(dtype: torch.dtype) -> float:
    """Largest relative difference of two correct computations in a dtype.

    Args:
        dtype: The dtype of the weights.
    """
    return _ROUNDING.get(dtype, _ROUNDING[torch.bfloat16])
