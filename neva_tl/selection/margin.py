"""Selector `margin`: neurons by what their own contrast does to the value's margin, less what it does to other values'.

    write_kj = (mean_plus_k - mean_minus_k) * effect_kj      (nats per token, to first order)
    score_k  = write_kt - lam_write * mean_j max(0, write_kj)

`effect_kj` is the margin effect of `attribution.margin` on value j: what the neuron writes, by all paths, measured on how much
likelier the model finds answers that express the value. Screened as by `effect_size`. A neuron that only reads a value has no
effect on its margin; one that raises other values' margins too loses what it gains. Measured on training texts only. Ours.
"""

from __future__ import annotations

import numpy as np

from neva_tl.activations import ActivationStats
from neva_tl.attribution.margin import MarginEffects, margin_effects
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, finish, need_model
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
    """Neurons that pass the effect-size screen, by specific effect on the margin; the score must be above 0.

    Args:
        stats: activation statistics, with samples where `effects` is not given.
        request: what is asked for; its model is run where `effects` is not given.
        effects: measured once for several values; None measures them now.
        lam_write: weight of what the neuron does to other values' margins.
        texts, chat: see `margin_effects`.
        flips: sign flips behind `p_fwe` (with samples); 0 leaves it out.

    Returns:
        Columns beside the effect table's: `effect`, `effect_se` (per unit of activation), `write`, `write_other`.

    Raises:
        InputError: site `gate`, neither effects nor model and samples, or effects of another size.
    """
    if request.site != "post":
        raise InputError("method margin attributes through hook_post: select at post")
    if effects is None:
        if stats.samples is None:
            raise InputError("method margin runs the training texts again: collect with samples=True (or a path)")
        model = need_model(request, "method margin")
        effects = margin_effects(model, stats.samples.table, stats.values, texts=texts, chat=chat, seed=request.seed)
    if effects.effect.shape[1] < stats.n_layers or effects.effect.shape[2] != stats.d_mlp:
        raise InputError(
            f"margin effects of {effects.effect.shape[1]} layers x {effects.effect.shape[2]} neurons do not fit statistics "
            f"of {stats.n_layers} x {stats.d_mlp}"
        )
    found, counts = screen(stats, request)
    passed = found.frame()
    at = passed["layer"].to_numpy() * stats.d_mlp + passed["neuron"].to_numpy()
    step = (passed["mean_plus"] - passed["mean_minus"]).to_numpy(dtype=float)
    own = effects.of(request.value).ravel()[at]
    others = [effects.of(name).ravel()[at] * step for name in effects.values if name != request.value]
    leaked = np.mean(np.maximum(0.0, others), axis=0) if others else np.zeros_like(step)
    ranked = passed.assign(
        effect=own,
        effect_se=effects.se[effects.values.index(request.value)].ravel()[at],
        write=own * step,
        write_other=leaked,
        score=own * step - lam_write * leaked,
    )
    counts["raises_margin"] = int((ranked["write"] > 0).sum())
    ranked = ranked[(ranked["score"] > 0) & (ranked["specific"] > 0)].sort_values(
        "score", ascending=False, kind="stable"
    )
    counts["raises_this_value"] = len(ranked)
    ranked = add_familywise(stats, request, ranked, flips)
    return finish(stats, request, "margin", ranked.drop(columns=["value"]), counts)
