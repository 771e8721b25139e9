"""Selector `lape`: neurons that fire for few values only.

Language activation probability entropy, applied to values.

    p_kv = P(h_k > 0 | texts that express v),   H_k = entropy of p_k over the values (normalised to sum 1)

A neuron that fires for one value alone has H = 0, one that fires equally for all has log V. Candidates are neurons with some
`p_kv` above the 95th percentile of all p. Of these the ones with the lowest entropy are kept, 1 % of all neurons; a value
takes those whose p for it is above that percentile. (Tang et al. 2024, "Language-Specific Neurons"; the use for values instead
of languages follows METHODS.)
"""

from __future__ import annotations

import numpy as np
from scipy.stats import entropy

from neva_tl.activations import ActivationStats
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.selection.activation_probability import share_above_zero
from neva_tl.selection.base import Request, best_first, finish, limit_of, neurons_of
from neva_tl.selection.contrast import once
from neva_tl.selection.effect_size import measure_neurons


def select_lape(
    stats: ActivationStats, request: Request, *, share: float = 0.01, percentile: float = 95.0
) -> NeuronSet:
    """Neurons of low entropy over values that fire often for this one.

    Args:
        stats: Activation statistics of at least two values.
        request: The request; k limits the result.
        share: Share of all neurons to keep, for all values together.
        percentile: Percentile of all activation probabilities above which a neuron fires often.

    Returns:
        The effect table's columns and `entropy` (nats), `p_value`; score = `1 - entropy / log(number of values)`.

    Raises:
        InputError: There are fewer than two values, or a share or percentile is out of range.
    """
    if len(stats.values) < 2:
        raise InputError("lape compares values: these statistics hold one alone")
    if not 0 < share <= 1 or not 0 <= percentile < 100:
        raise InputError(f"share lies in (0, 1] and percentile in [0, 100): got {share} and {percentile}")
    value, site, family = request.value, request.site, neurons_of(stats, request.layers)
    key = (f"lape {share} {percentile}", str(request.layers), site)
    often, spread, low = once(stats, key, lambda: _low_entropy(stats, site, family, share, percentile))
    p = share_above_zero(stats, value, "+", site).ravel()[family]
    score = 1 - spread / np.log(len(stats.values))
    candidates = np.flatnonzero(low & (p > often))
    counts = {"fires": int(np.isfinite(spread).sum()), "low_entropy": int(low.sum()), "this_value": len(candidates)}
    best = candidates[best_first(score[candidates], limit_of(stats, request))]
    ranked = measure_neurons(stats, request, family[best]).frame()
    ranked = ranked.assign(entropy=spread[best], p_value=p[best], score=score[best])
    return finish(stats, request, "lape", ranked.drop(columns=["value"]), counts)


def _low_entropy(
    stats: ActivationStats, site: str, family: np.ndarray, share: float, percentile: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The part that all values share.

    Returns:
        The probability above which a neuron fires often, each neuron's entropy (infinite if it fires often for no value), and
        the neurons that are kept for all values together.
    """
    p = np.stack([share_above_zero(stats, name, "+", site).ravel()[family] for name in stats.values])
    often = np.percentile(p, percentile)
    active = (p > often).any(axis=0)
    spread = np.full(len(family), np.inf)
    spread[active] = np.round(
        entropy(p[:, active], axis=0), 9
    )  # the same p in another order must give the same entropy
    low = np.zeros(len(family), dtype=bool)
    low[best_first(-spread, max(1, round(share * len(family))))] = True
    return float(often), spread, low & active
