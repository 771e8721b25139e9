"""Draws of D and the headline numbers read off them: gain, leakage, NLR, NGL with their intervals.

Shared by the leakage of raw scores (`leakage.measure`) and by the one corrected for the judge's confusion
(`corrected.correct`): the two differ in nothing but the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.evaluation.measures import formulas as measures
from neva_tl.evaluation.measures.cluster_sums import bootstrap_weights, cluster_sums, random_halves
from neva_tl.evaluation.measures.estimate import Estimate, interval, null
from neva_tl.evaluation.measures.responses import Responses


@dataclass(frozen=True, eq=False)
class Drawn:
    """D and its cross-fitted positive part on the data (row 0) and on every bootstrap draw (the other rows)."""

    d: Float[np.ndarray, "b i j"]
    positive: Float[np.ndarray, "b i j"]


@dataclass(frozen=True)
class Headline:
    """The headline numbers of one method; the attributes are those of `LeakageResult` of the same names."""

    gains: dict[str, Estimate]
    leakages: dict[str, Estimate]
    gain: Estimate
    leakage: Estimate
    leakage_plain: Estimate
    nlr: Estimate
    nlr_plain: Estimate
    ngl: Estimate


def draw(responses: Responses, *, seed: int, n_boot: int, n_splits: int) -> Drawn:
    """D on the data and on bootstrap draws of the topics.

    Raises:
        InputError: no halving is asked for.
    """
    if n_splits < 1:
        raise InputError("n_splits must be at least 1: cross-fitting needs one halving of the topics")
    sums = cluster_sums(responses)
    shared = responses.shared
    boot = bootstrap_weights(sums.names, responses.values, n_boot=n_boot, seed=seed, shared=shared)
    halves = random_halves(sums.names, responses.values, n_splits=n_splits, seed=seed, shared=shared)
    weights = _with_data(boot)
    return Drawn(measures.effects(sums, weights), measures.crossfit_positive(sums, weights, halves))


def _with_data(boot: Sequence[Float[np.ndarray, "b _"]]) -> list[Float[np.ndarray, "_ _"]]:
    """The draws below a row of ones, which is the data; what was one array stays one."""
    made = {id(w): np.vstack([np.ones((1, w.shape[1])), w]) for w in boot}
    return [made[id(w)] for w in boot]


def level_draws(responses: Responses, *, seed: int, n_boot: int, edited: bool) -> Float[np.ndarray, "b i"]:
    """Mean score of each steered value itself, unedited or under its edit: on the data (row 0) and on the draws of D."""
    scores = responses.edited
    if not edited:
        scores = tuple(np.broadcast_to(b, e.shape) for b, e in zip(responses.base, responses.edited, strict=True))
    levels = replace(responses, base=tuple(np.zeros_like(b) for b in responses.base), edited=scores)
    sums = cluster_sums(levels)
    boot = bootstrap_weights(sums.names, levels.values, n_boot=n_boot, seed=seed, shared=levels.shared)
    drawn = measures.effects(sums, _with_data(boot))
    return measures.gain(drawn, levels.target)


def nlr(leak: Float[np.ndarray, "b i"], gain: Float[np.ndarray, "b i"], n: int, level: float) -> Estimate:
    """Ratio of sums over rows; row 0 of either is the data.

    Null unless the sum of gains is above 0 with its whole interval.
    """
    top, bottom = leak.sum(axis=-1), gain.sum(axis=-1)
    total = interval(bottom[0], bottom[1:], n, level)
    if total.lo is None or total.lo <= 0:
        return null(n)
    drawn = measures.ratio(top, bottom)
    return interval(drawn[0], drawn[1:], n, level, recentre=True)


def headline(drawn: Drawn, responses: Responses, level: float) -> Headline:
    """The headline numbers of draws of D.

    Args:
        drawn: D and its positive part, the data in row 0.
        responses: names and counts of what was steered and measured.
        level: coverage of the intervals.
    """
    target, n = responses.target, responses.n
    gains = measures.gain(drawn.d, target)
    fitted = measures.off_target_mean(drawn.positive, target)
    plain = measures.leakage(drawn.d, target)

    def estimate(x: np.ndarray, items: int = n, kinked: bool = False) -> Estimate:
        return interval(x[0], x[1:], items, level, recentre=kinked)

    leak = estimate(fitted.mean(axis=-1), kinked=True)
    ngl = null(n)
    if leak.lo is not None and leak.lo > 0:
        ngl = estimate(measures.leaving_share(drawn.positive, responses.steered, responses.values), kinked=True)
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
