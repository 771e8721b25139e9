"""Selector `lape`: neurons that fire for few values only (language activation probability entropy, carried to values).

    p_kv = P(h_k > 0 | texts that express v),   H_k = entropy of p_k over the values (normalised to sum 1)

A neuron that fires for one value alone has H = 0, one that fires for all alike log V. Candidates are neurons with some
`p_kv` above the 95th percentile of all p; of these the ones with the lowest entropy are kept, 1 % of all neurons; a value's
own are those whose p for it is above that percentile. (Tang et al. 2024, "Language-Specific Neurons"; values for languages
is METHODS' reading.)
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
from neva_tl.selection.effect_size import tested


def select_lape(
    stats: ActivationStats, request: Request, *, share: float = 0.01, percentile: float = 95.0
) -> NeuronSet:
    """Neurons of low entropy over values that fire often for this one.

    Args:
        stats: activation statistics of at least two values.
        request: what is asked for; k cuts what is found.
        share: of all neurons, kept for all values together.
        percentile: of all activation probabilities: what "fires often" means.

    Returns:
        Columns beside the effect table's: `entropy` (nats), `p_value`; score = `1 - entropy / log(number of values)`.

    Raises:
        InputError: fewer than two values, or a share or percentile out of range.
    """
    if len(stats.values) < 2:
        raise InputError("lape compares values: these statistics hold one alone")
    if not 0 < share <= 1 or not 0 <= percentile < 100:
        raise InputError(f"share lies in (0, 1] and percentile in [0, 100): got {share} and {percentile}")
    value, site, family = request.value, request.site, neurons_of(stats, request.layers)
    key = (f"lape {share} {percentile}", str(request.layers), site)
    often, spread, low = once(stats, key, lambda: _low_entropy(stats, site, family, share, percentile))
    own = share_above_zero(stats, value, "+", site).ravel()[family]
    score = 1 - spread / np.log(len(stats.values))
    found = np.flatnonzero(low & (own > often))
    counts = {"fires": int(np.isfinite(spread).sum()), "low_entropy": int(low.sum()), "this_value": len(found)}
    best = found[best_first(score[found], limit_of(stats, request))]
    ranked = tested(
        stats, value, site=site, delta=request.delta, lam=request.lam, layers=request.layers, at=family[best]
    ).frame()
    ranked = ranked.assign(entropy=spread[best], p_value=own[best], score=score[best])
    return finish(stats, request, "lape", ranked.drop(columns=["value"]), counts)


def _low_entropy(
    stats: ActivationStats, site: str, family: np.ndarray, share: float, percentile: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """What all values have in common: what "often" is, each neuron's entropy (infinite where it fires for no value often),
    and which neurons are kept for all values together."""
    p = np.stack([share_above_zero(stats, name, "+", site).ravel()[family] for name in stats.values])
    often = np.percentile(p, percentile)
    active = (p > often).any(axis=0)
    spread = np.full(len(family), np.inf)
    spread[active] = np.round(entropy(p[:, active], axis=0), 9)  # equal p in another order: the same entropy
    low = np.zeros(len(family), dtype=bool)
    low[best_first(-spread, max(1, round(share * len(family))))] = True
    return float(often), spread, low & active
