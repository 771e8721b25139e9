"""Draws of D, and the headline numbers computed from them: gain, leakage, NLR, NGL with intervals.

Shared by the leakage of raw scores (`result.measure`) and the leakage corrected for the judge's confusion
(`corrected.correct`): the two differ only in the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.evaluation.measures import formulas
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights, cluster_sums, random_halves
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.responses import Responses


@dataclass(frozen=True, eq=False)
class Drawn:
    """D and its cross-fitted positive part, on the data (row 0) and on the bootstrap draws (other rows).

    Attributes:
        d: D.
        positive: Cross-fitted positive part of D.
    """

    d: Float[np.ndarray, "b i j"]
    positive: Float[np.ndarray, "b i j"]


@dataclass(frozen=True)
class Headline:
    """Headline numbers of one method; see the attributes of `LeakageResult` with the same names."""

    gains: dict[str, Estimate]
    leakages: dict[str, Estimate]
    gain: Estimate
    leakage: Estimate
    leakage_plain: Estimate
    nlr: Estimate
    nlr_plain: Estimate
    ngl: Estimate


#: Random halvings of the cross-fitted leakage.
SPLITS = 8


def draw(responses: Responses, *, seed: int, n_boot: int, n_splits: int) -> Drawn:
    """Compute D on the data and on bootstrap draws of the topics.

    Args:
        responses: The item scores.
        seed: Seed of the draws and halvings.
        n_boot: Bootstrap draws.
        n_splits: Random halvings for cross-fitting.

    Raises:
        InputError: `n_splits` is below 1.
    """
    if n_splits < 1:
        raise InputError("n_splits must be at least 1: cross-fitting needs a halving of the topics")
    sums = cluster_sums(responses)
    shared = responses.shared
    boot = bootstrap_weights(sums.names, responses.values, n_boot=n_boot, seed=seed, shared=shared)
    halves = random_halves(sums.names, responses.values, n_splits=n_splits, seed=seed, shared=shared)
    weights = _with_data(boot)
    return Drawn(formulas.effects(sums, weights), formulas.crossfit_positive(sums, weights, halves))


def _with_data(boot: Sequence[Float[np.ndarray, "b _"]]) -> list[Float[np.ndarray, "_ _"]]:
    """Put a row of ones (the data) above the draws; measured values that share an array still share one."""
    stacked = {id(w): np.vstack([np.ones((1, w.shape[1])), w]) for w in boot}
    return [stacked[id(w)] for w in boot]


def level_draws(responses: Responses, *, seed: int, n_boot: int, edited: bool) -> Float[np.ndarray, "b i"]:
    """Compute the mean score of each steered value on the data (row 0) and on the draws of D.

    Args:
        responses: The item scores.
        seed: Seed of the draws.
        n_boot: Bootstrap draws.
        edited: True for the score under the value's edit, False for the unedited score.
    """
    scores = responses.edited
    if not edited:
        scores = tuple(np.broadcast_to(b, e.shape) for b, e in zip(responses.base, responses.edited, strict=True))
    levels = replace(responses, base=tuple(np.zeros_like(b) for b in responses.base), edited=scores)
    return target_draws(levels, seed=seed, n_boot=n_boot)


def target_draws(responses: Responses, *, seed: int, n_boot: int) -> Float[np.ndarray, "b i"]:
    """Compute the gain of each steered value on the data (row 0) and on the draws of D, without leakage.

    Args:
        responses: The item scores.
        seed: Seed of the draws.
        n_boot: Bootstrap draws.
    """
    sums = cluster_sums(responses)
    boot = bootstrap_weights(sums.names, responses.values, n_boot=n_boot, seed=seed, shared=responses.shared)
    return formulas.gain(formulas.effects(sums, _with_data(boot)), responses.target)


def nlr(leak: Float[np.ndarray, "b i"], gain: Float[np.ndarray, "b i"], n: int, level: float) -> Estimate:
    """Compute NLR, the ratio of summed leakage and summed gain.

    Args:
        leak: Leakage per draw (row 0 is the data) and steered value.
        gain: Gain per draw and steered value.
        n: Number of items.
        level: Coverage of the interval.

    Returns:
        The estimate; undefined unless the interval of the sum of gains is above 0.
    """
    top, bottom = leak.sum(axis=-1), gain.sum(axis=-1)
    total = interval(bottom[0], bottom[1:], n, level)
    if total.lo is None or total.lo <= 0:
        return null(n)
    drawn = formulas.ratio(top, bottom)
    return interval(drawn[0], drawn[1:], n, level, recentre=True)


def headline(drawn: Drawn, responses: Responses, level: float) -> Headline:
    """Compute the headline numbers from draws of D.

    Args:
        drawn: D and its positive part.
        responses: The item scores, for names and counts.
        level: Coverage of the intervals.
    """
    target, n = responses.target, responses.n
    gains = formulas.gain(drawn.d, target)
    fitted = formulas.off_target_mean(drawn.positive, target)
    plain = formulas.leakage(drawn.d, target)

    def estimate(x: np.ndarray, items: int = n, kinked: bool = False) -> Estimate:
        return interval(x[0], x[1:], items, level, recentre=kinked)

    leak = estimate(fitted.mean(axis=-1), kinked=True)
    ngl = null(n)
    if leak.lo is not None and leak.lo > 0:
        names = responses.steered, responses.values
        leaving = formulas.leaving_share(drawn.positive, *names, responses.value_theory)
        ngl = estimate(leaving, kinked=True)
    return Headline(
        gains={v: estimate(gains[:, i], len(responses.base[target[i]])) for i, v in enumerate(responses.steered)},
        leakages={v: estimate(fitted[:, i], kinked=True) for i, v in enumerate(responses.steered)},
        gain=estimate(gains.mean(axis=-1)),
        leakage=leak,
        leakage_plain=estimate(plain.mean(axis=-1), kinked=True),
        nlr=nlr(fitted, gains, n, level),
        nlr_plain=nlr(plain, gains, n, level),
        ngl=ngl,
    )
