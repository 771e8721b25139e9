"""Selector `mean_shift`: the largest mean differences (DPN-LE, 2604.27929).

They must also exceed the spread.

    s_k = mean_plus_k - mean_minus_k,   kept: |s_k| > its 99.5 % quantile over neurons, and |s_k / sd_k| > .8

Ranked by |s|; the edit's weights `rank_weight` fall linearly from 1 (first) to .75 (last). The paper reads the prompt's last
token; this selector reads the tokens that all methods read (`pooling` of the statistics).
"""

from __future__ import annotations

import numpy as np

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.base import Request, best_first, finish, limit_of, neurons_of
from neva_tl.selection.effect_size import measure_neurons


def select_mean_shift(
    stats: ActivationStats,
    request: Request,
    *,
    quantile: float = 0.995,
    least_d: float = 0.8,
    lightest: float = 0.75,
) -> NeuronSet:
    """Neurons with a large mean difference and a large Cohen's d.

    Args:
        stats: Activation statistics.
        request: The request; k limits the result.
        quantile: Quantile of |s| over the request's layers.
        least_d: Smallest |Cohen's d| (difference by the spread pooled within poles); the paper also uses .3.
        lightest: Weight of the last rank.

    Returns:
        The effect table's columns and `cohen_d`, `rank_weight`; score = |s| (activation units).

    Raises:
        InputError: `quantile` or `lightest` is outside [0, 1], or `least_d` is negative.
    """
    if not 0 <= quantile < 1 or not 0 <= lightest <= 1 or least_d < 0:
        raise InputError(
            f"quantile lies in [0, 1), lightest in [0, 1], least_d is not negative: got {quantile}, {lightest}, {least_d}"
        )
    value, site, family = request.value, request.site, neurons_of(stats, request.layers)
    score = np.abs(stats.delta(value, site).ravel()[family])
    large = np.flatnonzero(score > np.quantile(score, quantile))
    shift, sd = stats.delta(value, site, family[large]), stats.sd(value, site, family[large])
    d = np.divide(shift, sd, out=np.zeros_like(shift), where=sd > 0)
    apart = np.abs(d) > least_d
    passed, d = large[apart], d[apart]
    counts = {"shift": len(large), "cohen_d": len(passed)}
    best = best_first(score[passed], limit_of(stats, request))
    ranked = measure_neurons(stats, request, family[passed[best]]).frame()
    weight = np.linspace(1.0, lightest, len(best))
    ranked = ranked.assign(cohen_d=d[best], score=score[passed[best]], rank_weight=weight)
    return finish(stats, request, "mean_shift", ranked.drop(columns=["value"]), counts)
