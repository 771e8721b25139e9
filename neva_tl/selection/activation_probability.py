"""Selector `activation_probability`: neurons that fire more often on one pole.

After NPTI (ICLR 2025) and ValueLocate (2505.17712).

    p_diff_k = P(a_k > 0 | +) - P(a_k > 0 | -)

over the texts' answer tokens (each text counts once, with its share of tokens above 0). Both papers read `a = act(gate)` of
gated MLPs: use `site="gate"` for these. They keep the 2,000 largest differences and any of at least .1. Without `k` this
selector does the same, with the 2,000 limited to a thirtieth of the model (ours: 2,000 would be all of a small model). No test
screens the neurons, as in the papers; the columns of the effect table show which ones a screen would pass.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from neva_tl.activations import POLES, ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, best_first, finish, limit_of, neurons_of
from neva_tl.selection.contrast import once
from neva_tl.selection.effect_size import measure_neurons


def share_above_zero(stats: ActivationStats, value: str, pole: str, site: str = "post") -> Float[np.ndarray, "l k"]:
    """`P(activation > 0)` of every neuron on one pole, over all folds.

    Args:
        stats: Activation statistics.
        value: The value.
        pole: `+` or `-`.
        site: `post` or `gate`.

    Raises:
        InputError: The statistics do not contain the site.
    """
    shares = stats.positive if site == "post" else stats.gate_positive
    if shares is None:
        raise InputError("these statistics hold no site 'gate': the model has no gated MLP, or collect with gate=True")
    v, p = stats.index(value), POLES.index(pole)
    return once(stats, (f"share above 0, {pole}", value, site), lambda: _merged_share(stats.n[v, p], shares[v, p]))


def _merged_share(n: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean over folds `[f, l, k]`, layer by layer, to limit float64 copies."""
    n = n.astype(np.float64)
    merged = np.empty(shares.shape[1:])
    for layer in range(len(merged)):
        # six digits: further digits are round-off of float32 moments and must not order equal shares
        merged[layer] = np.round(n @ shares[:, layer].astype(np.float64) / n.sum(), 6)
    merged.flags.writeable = False
    return merged


def select_activation_probability(
    stats: ActivationStats, request: Request, *, top: int = 2000, least: float = 0.1, pole: str = "+"
) -> NeuronSet:
    """Neurons with the largest difference of activation probability towards a pole.

    Args:
        stats: Activation statistics; with the gate's moments for `site="gate"`.
        request: The request; a `k` overrides `top` and `least`.
        top: Number of neurons to keep if their difference is above 0, at most a thirtieth of the model.
        least: Every neuron with at least this difference is kept.
        pole: `+` for neurons that fire more often on texts that express the value, `-` for the opposite ones.

    Returns:
        The effect table's columns and `p_plus`, `p_minus`, `p_diff`; score = the difference towards the pole.

    Raises:
        InputError: `top` or `least` is not above 0, the pole is unknown, or the site was not collected.
    """
    if top < 1 or not least > 0:
        raise InputError(f"top and least must be above 0: got top = {top}, least = {least}")
    if pole not in POLES:
        raise InputError(f"unknown pole {pole!r}: choose + or -")
    value, site, family = request.value, request.site, neurons_of(stats, request.layers)
    plus, minus = (share_above_zero(stats, value, p, site).ravel()[family] for p in POLES)
    score = plus - minus if pole == "+" else minus - plus
    above = np.flatnonzero(score > 0)
    counts = {"above_0": len(above), "least": int((score >= least).sum())}
    limit = max(min(top, limit_of(stats, request)), counts["least"]) if request.k is None else request.k
    best = above[best_first(score[above], limit)]
    ranked = measure_neurons(stats, request, family[best]).frame()
    ranked = ranked.assign(p_plus=plus[best], p_minus=minus[best], p_diff=(plus - minus)[best], score=score[best])
    limited = replace(request, k=limit if request.k is not None else max(1, len(best)))
    neurons = finish(stats, limited, "activation_probability", ranked.drop(columns=["value"]), counts)
    return replace(neurons, settings={**neurons.settings, "k": request.k})
