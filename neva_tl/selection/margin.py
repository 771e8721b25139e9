"""Selector `margin`: neurons by effect on the value's margin.

The effect of the neuron's contrast, less its effect on other values' margins.

    write_kj = (mean_plus_k - mean_minus_k) * effect_kj      (nats per token, to first order)
    score_k  = write_kt - lam_write * mean_j max(0, write_kj)

`effect_kj` is the margin effect of `attribution.margin` on value j: the effect of the neuron's activation, by all paths, on
how much more probable the model finds answers that express the value. The screen is that of `effect_size`. A neuron that only
reads a value has no effect on its margin; a neuron that raises other values' margins too is penalised by that amount. Measured
on training texts only. Ours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neva_tl import models
from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects, margin_effects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, finish, need_model
from neva_tl.selection.contrast import once
from neva_tl.selection.effect_size import add_familywise, screen


def select_margin(
    stats: ActivationStats,
    request: Request,
    *,
    effects: MarginEffects | None = None,
    lam_write: float = 2.0,
    texts: int = 20,
    chat: bool | None = None,
    flips: int = 1000,
) -> NeuronSet:
    """Neurons that pass the effect-size screen, by specific effect on the margin.

    The score must be above 0.

    Args:
        stats: Activation statistics; with their texts, unless `effects` is supplied.
        request: The request; its model is run unless `effects` is supplied.
        effects: Margin effects of the collected values; None measures them here, once for these statistics.
        lam_write: Weight of the neuron's effect on other values' margins.
        texts: Number of texts per value and pole (see `margin_effects`).
        chat: Whether the chat template is used (see `margin_effects`); None is as in the statistics.
        flips: Number of sign flips for `p_fwe` (with samples); 0 omits it.

    Returns:
        The effect table's columns and `effect`, `effect_se` (per unit of activation), `write`, `write_other`.

    Raises:
        InputError: The site is `gate`, neither effects nor model and texts are available, or the effects are of another
            size.
    """
    if request.site != "post":
        raise InputError("method margin attributes through hook_post: select at post")
    if effects is None:
        effects = _measured(stats, request, texts, stats.encoding.get("chat") if chat is None else chat)
    if effects.effect.shape[1] < stats.n_layers or effects.effect.shape[2] != stats.d_mlp:
        raise InputError(
            f"margin effects of {effects.effect.shape[1]} layers x {effects.effect.shape[2]} neurons do not fit statistics "
            f"of {stats.n_layers} x {stats.d_mlp}"
        )
    screened, counts = screen(stats, request)
    passed = screened.frame()
    at = passed["layer"].to_numpy() * stats.d_mlp + passed["neuron"].to_numpy()
    step = (passed["mean_plus"] - passed["mean_minus"]).to_numpy(dtype=float)
    effect = effects.of(request.value).ravel()[at]
    others = [effects.of(name).ravel()[at] * step for name in effects.values if name != request.value]
    leaked = np.mean(np.maximum(0.0, others), axis=0) if others else np.zeros_like(step)
    ranked = passed.assign(
        effect=effect,
        effect_se=effects.se[effects.values.index(request.value)].ravel()[at],
        write=effect * step,
        write_other=leaked,
        score=effect * step - lam_write * leaked,
    )
    counts["raises_margin"] = int((ranked["write"] > 0).sum())
    ranked = ranked[(ranked["score"] > 0) & (ranked["specific"] > 0)].sort_values(
        "score", ascending=False, kind="stable"
    )
    counts["raises_this_value"] = len(ranked)
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "margin", ranked.drop(columns=["value"]), counts)


def _measured(stats: ActivationStats, request: Request, texts: int, chat: bool | None) -> MarginEffects:
    """Margin effects of all collected values, measured once for these statistics."""
    table = stats.training_texts
    if table is None:
        raise InputError("method margin runs the training texts again: collect again, or pass stats.with_texts(pairs)")
    model = need_model(request, "method margin")

    def measure() -> MarginEffects:
        effects = margin_effects(model, table, stats.values, texts=texts, chat=chat, seed=request.seed)
        # float32, as a study stores them: the same neurons in the same order
        return replace(effects, effect=effects.effect.astype(np.float32), se=effects.se.astype(np.float32))

    # without a fingerprint, or under an edit, the next call may have another model
    if not stats.fingerprint or models.has_hooks(model):
        return measure()
    return once(stats, ("margin effects", f"{texts} texts, chat {chat}, seed {request.seed}", "post"), measure)
