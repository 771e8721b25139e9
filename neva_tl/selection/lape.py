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
from neva_tl.errors import InputError
from neva_tl.neurons import NeuronSet
from neva_tl.selection.activation_probability import share_above_zero
from neva_tl.selection.base import Request, finish
from neva_tl.selection.effect_size import effect_table


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
    table = effect_table(
        stats, request.value, site=request.site, delta=request.delta, lam=request.lam, layers=request.layers
    )
    at = (table["layer"].to_numpy(), table["neuron"].to_numpy())
    p = np.stack([share_above_zero(stats, name, "+", request.site)[at] for name in stats.values])
    often = np.percentile(p, percentile)
    active = (p > often).any(axis=0)
    spread = np.full(len(table), np.inf)
    spread[active] = np.round(entropy(p[:, active], axis=0), 9)  # equal p in another order: the same entropy
    lowest = np.argsort(spread, kind="stable")[: max(1, round(share * len(table)))]
    low = np.isin(np.arange(len(table)), lowest) & active
    own = p[stats.index(request.value)]
    table = table.assign(entropy=spread, p_value=own, score=1 - spread / np.log(len(stats.values)))
    ranked = table[low & (own > often)].sort_values("score", ascending=False, kind="stable")
    counts = {"fires": int(active.sum()), "low_entropy": int(low.sum()), "this_value": len(ranked)}
    return finish(stats, request, "lape", ranked.drop(columns=["value"]), table, counts)
