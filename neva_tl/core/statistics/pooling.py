"""Effects of several sources on one scale, pooled as a random effect.

The true effect of a source is drawn from a population of sources with mean mu and variance tau^2, and its estimate has a
sampling variance of its own. All functions are vectorised over trailing dimensions, so that one call covers all neurons.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.special import ndtr, ndtri

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.statistics.effects import Effect, effect_variance, hedges_correction, hedges_g, paired_g
from neva_tl.core.statistics.moments import check_moments


class PooledEffect(NamedTuple):
    """An effect pooled over sources.

    Attributes:
        effect: Estimated mean effect of the population of sources, in the unit of the effects.
        se: Standard error of that mean.
        tau2: Estimated variance of the true effects between sources (tau^2), 0 where they differ by no more than sampling.
        i2: Share of the variation between estimates that is not sampling (I^2, Higgins and Thompson 2002), from 0 to 1.

    Example:
        >>> pooled = nv.statistics.pool_effects(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
        >>> float(pooled.effect), float(pooled.se), float(pooled.tau2), float(pooled.i2)
        (2.0, 1.0, 1.5, 0.75)
    """

    effect: np.ndarray
    se: np.ndarray
    tau2: np.ndarray
    i2: np.ndarray

    def __repr__(self) -> str:
        return brief(self)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Compute Wald's confidence interval `effect +- z se`.

        Args:
            level: Nominal coverage. With two or three sources that differ, the coverage is lower (tau^2 is hardly known).

        Raises:
            InputError: The level is outside (0, 1).

        Example:
            >>> pooled = nv.statistics.pool_effects(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
            >>> [round(float(limit), 2) for limit in pooled.interval()]
            [0.04, 3.96]
        """
        if not 0 < level < 1:
            raise InputError(f"level {level} is not between 0 and 1")
        half = ndtri((1 + level) / 2) * self.se
        return np.asarray(self.effect - half), np.asarray(self.effect + half)

    def p(self, delta: float = 0.0) -> np.ndarray:
        """Compute p-values of Wald's minimum-effect test, null hypothesis `|mean effect| <= delta`.

        `p = P(|Z| >= |effect| / se)` for `Z ~ N(delta / se, 1)`; delta = 0 is the usual two-sided test.

        Args:
            delta: Smallest effect of interest, in the unit of the effects.

        Raises:
            InputError: delta is negative.

        Example:
            >>> pooled = nv.statistics.pool_effects(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
            >>> round(float(pooled.p()), 4)
            0.0455
        """
        if delta < 0:
            raise InputError(f"delta {delta} is negative: it is a smallest effect of interest")
        size, shift = np.abs(self.effect) / self.se, delta / self.se
        return np.asarray(np.minimum(ndtr(shift - size) + ndtr(-shift - size), 1.0))


@check_arguments
def pool_effects(effects: Num[np.ndarray, " s *dims"], variances: Num[np.ndarray, "*shape"]) -> PooledEffect:
    """Pool the effects of several sources as a random effect (DerSimonian and Laird 1986).

    With `w = 1 / v`, `Q = sum w (y - sum w y / sum w)^2` and `C = sum w - sum w^2 / sum w`:
    `tau^2 = max(0, (Q - (s - 1)) / C)`, weights `1 / (v + tau^2)`, `se = 1 / sqrt(sum of weights)`,
    `I^2 = max(0, 1 - (s - 1) / Q)`. With two sources the estimate of tau^2 is that of Paule and Mandel (1982).

    Args:
        effects: One row per source.
        variances: Sampling variance of each effect.

    Raises:
        InputError: There are no sources, shapes differ, an effect is not finite, or a variance is not above 0.

    Example:
        >>> effects = np.array([[0.5, 0.1], [0.5, 0.9]])  # two sources by two neurons
        >>> pooled = nv.statistics.pool_effects(effects, np.full((2, 2), 0.02))
        >>> pooled.effect.round(2), pooled.tau2.round(2)
        (array([0.5, 0.5]), array([0. , 0.3]))
    """
    y, v = np.asarray(effects, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if y.shape != v.shape or not len(y):
        raise InputError(f"effects {y.shape} and variances {v.shape} must have one row per source, at least one")
    if not np.isfinite(y).all() or not (np.isfinite(v) & (v > 0)).all():
        raise InputError("an effect is not finite, or its sampling variance is not above 0: it cannot be pooled")
    w = 1 / v
    total = w.sum(axis=0)
    q = (w * (y - (w * y).sum(axis=0) / total) ** 2).sum(axis=0)
    # one source has no spread between sources: there Q and C are 0 up to round-off
    excess = np.maximum(q - (len(y) - 1), 0.0) if len(y) > 1 else np.zeros_like(q)
    c = total - (w**2).sum(axis=0) / total
    tau2 = np.divide(excess, c, out=np.zeros_like(q), where=excess > 0)
    i2 = np.divide(excess, q, out=np.zeros_like(q), where=q > 0)
    weight = 1 / (v + tau2)
    sum_of_weights = weight.sum(axis=0)
    effect = (weight * y).sum(axis=0) / sum_of_weights
    # a weighted mean lies between its terms; round-off can put it outside
    effect = np.clip(effect, y.min(axis=0), y.max(axis=0))
    return PooledEffect(np.asarray(effect), np.asarray(1 / np.sqrt(sum_of_weights)), np.asarray(tau2), np.asarray(i2))


@check_arguments
def mean_change(
    diff: tuple[int, Any, Any], plus: tuple[int, Any, Any], minus: tuple[int, Any, Any]
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Compute the mean of pair differences in standard deviations within the poles, and its sampling variance.

    `g = J(df) mean(diff) / pooled sd` is on the scale of `hedges_g`, so that sources with and without pairs can be pooled;
    `paired_g` divides by the spread of the differences and is on another one. With the correlation r within pairs, the pooled
    variance of n pairs has `df = 2 (n - 1) / (1 + r^2)` (Cousineau 2020) and g has the variance
    `(se(diff) / pooled sd)^2 + g^2 / (2 (df - 1.94))`, that of Bonett (2008) up to the 1.94. At r = 0 both are those of
    `hedges_g`.

    Args:
        diff: Moments of the pair differences.
        plus: Moments of the + texts.
        minus: Moments of the - texts.

    Returns:
        g and its variance. Without spread g is 0 or infinite, and the variance that of n pairs without correlation.

    Raises:
        InputError: There are fewer than two observations, or moments are not finite.

    Example:
        >>> plus, minus = np.array([[2.0], [3.0], [4.0]]), np.array([[1.0], [1.5], [3.5]])  # pairs by neurons
        >>> m = nv.statistics.moments
        >>> g, variance = nv.statistics.mean_change(m(plus - minus), m(plus), m(minus))
        >>> g.round(2), variance.round(2)
        (array([0.52]), array([0.6]))
    """
    paired, within = paired_g(diff), hedges_g(plus, minus)
    usable = (paired.sd > 0) & (within.sd > 0)
    ratio = np.divide(paired.sd, within.sd, out=np.full(usable.shape, np.sqrt(2)), where=usable)
    r = np.clip(1 - ratio**2 / 2, -1, 1)
    df = 2 * paired.df / (1 + r**2)
    change = check_moments(diff, "the pair differences").mean
    g = np.divide(change, within.sd, out=np.where(change == 0, 0.0, np.copysign(np.inf, change)), where=usable)
    g = np.multiply(hedges_correction(df), g, out=g.copy(), where=usable)
    root_n = np.asarray(paired.root_n / ratio)
    finite = np.where(np.isfinite(g), g, 0.0)
    return g, effect_variance(Effect(finite, paired.t, np.asarray(df), root_n, within.sd))
