"""Standardised mean differences from moments: Hedges' g, paired d_z, their intervals and tests.

All functions are vectorised over the moments' trailing dimensions. In addition to g, an `Effect` contains the t statistic
and the factor `root_n` for which `t ~ noncentral t(df, delta * root_n)` when the population effect is delta (normal
data, independent observations); intervals and the minimum-effect test follow from this distribution.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.optimize import brentq
from scipy.special import gammaln, nctdtr, nctdtrinc, ndtri
from scipy.stats import t as student

from neva_tl.core.arguments import check_arguments
from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Delta, Level
from neva_tl.core.statistics.limits import containing
from neva_tl.core.statistics.moments import Moments, check_moments
from neva_tl.core.statistics.tails import MANY, MANY_SHARES, spline, tails_on_curve, tails_on_surface, two_tails

#: Above this number of effects with one df, interval limits come from splines through exact limits (each a slow root).
_MANY_LIMITS = 512
#: Step of arcsinh(t) between the nodes of that spline: error of a noncentrality < 1e-6.
_LIMIT_STEP = 1 / 32


class Effect(NamedTuple):
    """A standardised mean difference.

    Attributes:
        g: Bias-corrected effect (Hedges' g, or Hedges-corrected d_z), in standard deviations.
        t: The t statistic of the mean difference.
        df: Degrees of freedom of t (a scalar array, or one per effect with Welch).
        root_n: Factor from a population effect to the noncentrality of t; broadcasts against t.
        sd: Standard deviation in whose units g is.
        sizes: Sizes of both samples for Welch's t (one share of variance then determines df and root_n); else None.

    Example:
        >>> plus, minus = np.array([[2.0], [3.0], [4.0]]), np.array([[1.0], [2.0], [3.0]])  # samples by neurons
        >>> effect = nv.statistics.hedges_g(nv.statistics.moments(plus), nv.statistics.moments(minus))
        >>> effect.g.round(2), effect.t.round(2), effect.sizes
        (array([0.8]), array([1.22]), None)
    """

    g: np.ndarray
    t: np.ndarray
    df: np.ndarray
    root_n: np.ndarray
    sd: np.ndarray
    sizes: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return brief(self)


@check_arguments
def hedges_correction(df: Num[np.ndarray, "*dims"] | float) -> Float[np.ndarray, "*dims"]:
    """Compute the exact small-sample factor `J = Gamma(df/2) / (sqrt(df/2) Gamma((df-1)/2))`.

    Source: Hedges 1981. J is 0 at df = 1.

    Args:
        df: Degrees of freedom, at least 1.

    Example:
        >>> nv.statistics.hedges_correction(np.array([10.0, 100.0])).round(3)
        array([0.923, 0.992])
    """
    df = np.asarray(df, dtype=np.float64)
    return np.asarray(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2))


@check_arguments
def hedges_g(plus: tuple[int, Any, Any], minus: tuple[int, Any, Any]) -> Effect:
    """Compute Hedges' g of two independent samples: `J (mean_plus - mean_minus) / pooled sd`.

    `df = n_plus + n_minus - 2`, `root_n = sqrt(n_plus n_minus / (n_plus + n_minus))`, t is Student's. Without any
    spread g is 0 for equal means and otherwise infinite with the difference's sign.

    Args:
        plus: Moments of the + sample.
        minus: Moments of the - sample.

    Raises:
        InputError: Fewer than two observations in a sample, or moments that are not finite.

    Example:
        >>> plus, minus = np.array([[2.0], [3.0], [4.0]]), np.array([[1.0], [2.0], [3.0]])  # samples by neurons
        >>> nv.statistics.hedges_g(nv.statistics.moments(plus), nv.statistics.moments(minus)).g.round(2)
        array([0.8])
    """
    a, b = check_moments(plus, "the + sample"), check_moments(minus, "the - sample")
    df = a.n + b.n - 2
    sd = np.sqrt((a.m2 + b.m2) / df)
    return _effect(a.mean - b.mean, sd, np.asarray(float(df)), np.asarray(np.sqrt(a.n * b.n / (a.n + b.n))))


@check_arguments
def paired_g(diff: tuple[int, Any, Any]) -> Effect:
    """Compute the Hedges-corrected d_z of pair differences: `J mean(diff) / sd(diff)`.

    `df = n - 1`, `root_n = sqrt(n)`.

    Args:
        diff: Moments of the pair differences.

    Raises:
        InputError: Fewer than two pairs, or moments that are not finite.

    Example:
        >>> differences = np.array([[0.2], [0.5], [0.4], [0.9]])  # pairs by neurons
        >>> nv.statistics.paired_g(nv.statistics.moments(differences)).g.round(2)
        array([1.23])
    """
    d = check_moments(diff, "the pair differences")
    return _effect(d.mean, np.sqrt(d.m2 / (d.n - 1)), np.asarray(float(d.n - 1)), np.asarray(np.sqrt(d.n)))


@check_arguments
def welch_effect(plus: tuple[int, Any, Any], minus: tuple[int, Any, Any]) -> Effect:
    """Compute Hedges' g with Welch's t, for tests that must not assume equal spread in both samples.

    g and sd are those of `hedges_g`; t and df are Welch's and Satterthwaite's, and `root_n = sd / standard error`, so
    that the noncentrality at effect delta is `delta * sd / se`. With unequal spreads the noncentral t is an
    approximation (ours: the central case is Welch 1947).

    Args:
        plus: Moments of the + sample.
        minus: Moments of the - sample.

    Raises:
        InputError: Fewer than two observations in a sample, or moments that are not finite.

    Example:
        >>> plus, minus = np.array([[2.0], [3.0], [4.0]]), np.array([[1.0], [5.0], [3.0], [2.0]])
        >>> effect = nv.statistics.welch_effect(nv.statistics.moments(plus), nv.statistics.moments(minus))
        >>> effect.g.round(2), effect.df.round(2)
        (array([0.14]), array([4.85]))
    """
    a, b = check_moments(plus, "the + sample"), check_moments(minus, "the - sample")
    pooled = hedges_g(a, b)
    t, df, se = _welch(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        root_n = np.where(se > 0, pooled.sd / np.where(se > 0, se, 1), pooled.root_n)
    return Effect(pooled.g, t, df, np.asarray(root_n), pooled.sd, (a.n, b.n))


@check_arguments
def welch(
    plus: tuple[int, Any, Any], minus: tuple[int, Any, Any]
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Test for equal means without equal spreads (as `scipy.stats.ttest_ind(equal_var=False)`).

    Args:
        plus: Moments of the + sample.
        minus: Moments of the - sample.

    Returns:
        Welch's t, Satterthwaite's df and the two-sided p-value.

    Example:
        >>> plus, minus = np.array([[2.0], [3.0], [4.0]]), np.array([[1.0], [2.0], [3.0]])  # samples by neurons
        >>> t, df, p = nv.statistics.welch(nv.statistics.moments(plus), nv.statistics.moments(minus))
        >>> t.round(2), p.round(2)
        (array([1.22]), array([0.29]))
    """
    t, df, _ = _welch(check_moments(plus, "the + sample"), check_moments(minus, "the - sample"))
    return t, df, np.asarray(2 * student.sf(np.abs(t), df))


def _welch(a: Moments, b: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute Welch's t, Satterthwaite's df and the standard error of the difference."""
    va, vb = _square_error(a.n, a.m2), _square_error(b.n, b.m2)
    total = va + vb
    safe = np.where(total > 0, total, 1.0)
    se = np.sqrt(total)
    t = _ratio(a.mean - b.mean, se)
    inverse = (va / safe) ** 2 / (a.n - 1) + (vb / safe) ** 2 / (b.n - 1)
    # without spread df would be 0/0: the pooled df replaces it, and t is 0 or infinite anyway
    df = 1 / np.where(total > 0, inverse, 1 / (a.n + b.n - 2))
    return t, np.asarray(df), se


@check_arguments
def paired_t(
    diff: tuple[int, Any, Any],
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, ""], Float[np.ndarray, "*dims"]]:
    """Test for a mean difference of 0 (as `scipy.stats.ttest_rel`).

    Args:
        diff: Moments of the pair differences.

    Returns:
        Paired t, df and the two-sided p-value.

    Example:
        >>> differences = np.array([[0.2], [0.5], [0.4], [0.9]])  # pairs by neurons
        >>> t, df, p = nv.statistics.paired_t(nv.statistics.moments(differences))
        >>> t.round(2), p.round(3)
        (array([3.4]), array([0.043]))
    """
    effect = paired_g(diff)
    return effect.t, effect.df, np.asarray(2 * student.sf(np.abs(effect.t), effect.df))


@check_arguments
def interval(
    effect: Effect, level: float = 0.95, method: Literal["noncentral-t", "large-sample"] = "noncentral-t"
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Compute the confidence interval of the population effect.

    `noncentral-t` (default; exact for independent normal data, Steiger and Fouladi 1997): the effects at which the
    observed t is the upper or lower tail quantile, `ncp / root_n` with `F(t; df, ncp) = (1 +- level) / 2`. It covers
    the population effect directly, so no J is applied. `large-sample`: `g +- z sqrt(1/root_n^2 + g^2/(2 (df - 1.94)))`,
    the normal approximation of Hedges and Olkin (1985) as in statsmodels' `effectsize_smd`.
    A limit beyond g becomes g: the noncentral limits can exclude the shrunken g at one degree of freedom, where J is 0, and
    at low levels.
    Both treat observations as independent: for prompts that share a cluster, use the cluster bootstrap or sign flips.

    Args:
        effect: Effects.
        level: Nominal coverage.
        method: `noncentral-t` or `large-sample`.

    Returns:
        Lower and upper limits.

    Raises:
        InputError: A level outside (0, 1) or an unknown method.

    Example:
        >>> differences = np.array([[0.2], [0.5], [0.4], [0.9]])  # pairs by neurons
        >>> low, high = nv.statistics.interval(nv.statistics.paired_g(nv.statistics.moments(differences)))
        >>> low.round(2), high.round(2)
        (array([0.05]), array([3.28]))
    """
    if not 0 < level < 1:
        raise InputError(f"level {level} is not between 0 and 1")
    tail = (1 - level) / 2
    if method == "large-sample":
        half = -ndtri(tail) * np.sqrt(effect_variance(effect))
        return np.asarray(effect.g - half), np.asarray(effect.g + half)
    if method != "noncentral-t":
        raise InputError(f"unknown interval method {method!r}: noncentral-t or large-sample")
    lo = _noncentrality(effect.t, effect.df, 1 - tail) / effect.root_n
    hi = _noncentrality(effect.t, effect.df, tail) / effect.root_n
    return containing(effect.g, lo, hi)


@check_arguments
def effect_variance(effect: Effect) -> Float[np.ndarray, "*dims"]:
    """Compute the large-sample variance of standardised effects, `1 / root_n^2 + g^2 / (2 (df - 1.94))`.

    Hedges and Olkin (1985), as in statsmodels' `effectsize_smd`. The weights of `pool_effects` are its inverse.

    Args:
        effect: Effects.

    Example:
        >>> sample = nv.statistics.paired_g((20, np.array([0.8]), np.array([19.0])))
        >>> nv.statistics.effect_variance(sample).round(3)
        array([0.067])
    """
    return np.asarray(1 / effect.root_n**2 + effect.g**2 / (2 * np.maximum(effect.df - 1.94, 0.06)))


@check_arguments
def mean_interval(
    values: Num[np.ndarray, " n *dims"], level: float = 0.95
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Compute means over the first axis with their t intervals.

    Args:
        values: One row per observation.
        level: Nominal coverage.

    Returns:
        Mean, lower and upper limit; the limits of a single row are NaN.

    Example:
        >>> mean, low, high = nv.statistics.mean_interval(np.array([[0.2], [0.5], [0.4], [0.9]]))
        >>> mean, low.round(2), high.round(2)
        (array([0.5]), array([0.03]), array([0.97]))
    """
    n, mean = len(values), values.mean(axis=0)
    if n < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = student.ppf((1 + level) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


@check_arguments
def minimum_effect_p(effect: Effect, delta: Delta = 0.2) -> Float[np.ndarray, "*dims"]:
    """Compute p-values of the minimum-effect test, null hypothesis `|population effect| <= delta`.

    `p = P(|T| >= |t|)` for `T ~ noncentral t(df, delta root_n)`, the null's least favourable point (Murphy and Myors
    1999, whose noncentral F with one numerator df is this T squared). delta = 0 is the usual two-sided t test.

    Args:
        effect: Effects.
        delta: Smallest effect of interest, in standard deviations.

    Raises:
        InputError: delta is negative.

    Example:
        >>> effect = nv.statistics.paired_g((20, np.array([0.1, 0.8]), np.array([19.0, 19.0])))
        >>> nv.statistics.minimum_effect_p(effect, delta=0.2).round(3)
        array([0.766, 0.011])
    """
    if delta < 0:
        raise InputError(f"delta {delta} is negative: it is a smallest effect of interest, in standard deviations")
    size = np.abs(effect.t)
    finite = np.where(np.isfinite(size), size, 0.0)
    ncp = delta * effect.root_n
    if size.size > MANY and np.ndim(effect.df) == 0 and np.ndim(ncp) == 0:
        p = tails_on_curve(finite, float(effect.df), float(ncp))
    elif size.size > MANY_SHARES and effect.sizes is not None:
        n = effect.sizes

        def parameters(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            df, root_n = _of_share(share, n)
            return df, delta * root_n

        p = tails_on_surface(finite, _share(effect, n), parameters)
    else:
        p = two_tails(finite, effect.df, ncp)
    return np.asarray(np.where(np.isfinite(size), p, 0.0))


def _of_share(share: np.ndarray, n: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Compute Satterthwaite's df and `welch_effect`'s root_n from the + sample's share in the difference's variance."""
    plus, minus = n
    df = 1 / (share**2 / (plus - 1) + (1 - share) ** 2 / (minus - 1))
    return df, np.sqrt((share * plus * (plus - 1) + (1 - share) * minus * (minus - 1)) / (plus + minus - 2))


def _share(effect: Effect, n: tuple[int, int]) -> np.ndarray:
    """Compute the share that gives an effect's df and root_n; the larger of two solutions for samples of equal size."""
    plus, minus = n
    if plus == minus:
        share = 0.5 + np.sqrt(np.maximum((plus - 1) / effect.df - 0.5, 0) / 2)
    else:
        squares = plus * (plus - 1), minus * (minus - 1)
        share = (effect.root_n**2 * (plus + minus - 2) - squares[1]) / (squares[0] - squares[1])
    return np.asarray(np.clip(share, 0.0, 1.0))


def critical_t(df: float, ncp: float, alpha: float) -> float:
    """Compute the c with `P(|T| >= c) = alpha` for `T ~ noncentral t(df, ncp)`.

    Args:
        df: Degrees of freedom.
        ncp: Noncentrality, at least 0.
        alpha: Two-sided level.
    """
    if ncp == 0:
        return float(student.isf(alpha / 2, df))
    top = max(1.0, ncp)
    while two_tails(top, df, ncp) > alpha:
        top *= 2
    return float(brentq(lambda c: float(two_tails(c, df, ncp)) - alpha, 0.0, top, xtol=1e-10))


@check_arguments
def least_t(effect: Effect, alpha: Level, delta: Delta = 0.2) -> float:
    """Compute a bound on |t| below which no minimum-effect p reaches alpha; screens skip those effects.

    The bound is tight to 1 % when all effects share df and root_n. Otherwise (Welch) it is the smallest critical value over
    the range of df at the smallest noncentrality: the tail probability rises with the noncentrality.

    Args:
        effect: Effects.
        alpha: Level, at most .5.
        delta: Smallest effect of interest, in standard deviations.

    Example:
        >>> effect = nv.statistics.paired_g((20, np.array([0.1, 0.8]), np.array([19.0, 19.0])))
        >>> bound = nv.statistics.least_t(effect, alpha=0.05)
        >>> bool(abs(effect.t[0]) < bound), bool(abs(effect.t[1]) < bound)
        (True, False)
    """
    ends = np.linspace(np.min(effect.df), np.max(effect.df), 1 if np.ndim(effect.df) == 0 else 9)
    ncp = float(delta * np.min(effect.root_n))
    # a grid, then a second grid inside the step that contains the bound: one root per df would take ten times as long
    low, high = 0.0, float(np.max(np.abs(effect.t), initial=1.0, where=np.isfinite(effect.t)))
    for _ in range(2):
        sizes = np.linspace(low, high, 65)
        least = two_tails(sizes[:, None], ends, ncp).min(axis=1)
        above = np.flatnonzero(least > alpha)
        last = int(above[-1]) if len(above) else 0
        low, high = sizes[last], sizes[min(last + 1, 64)]
    return 0.99 * float(low)


def _effect(difference: np.ndarray, sd: np.ndarray, df: np.ndarray, root_n: np.ndarray) -> Effect:
    d = _ratio(difference, sd)
    # J is 0 at df = 1, where an infinite d would give 0 * inf = NaN
    g = np.where(np.isfinite(d), hedges_correction(df) * np.where(np.isfinite(d), d, 0.0), d)
    return Effect(np.asarray(g), np.asarray(d * root_n), df, root_n, np.asarray(sd))


def _ratio(difference: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Divide difference by spread; without spread return 0 for no difference, else infinity with the difference's sign."""
    safe = np.where(spread > 0, spread, 1.0)
    return np.asarray(
        np.where(spread > 0, difference / safe, np.where(difference == 0, 0.0, np.copysign(np.inf, difference)))
    )


def _square_error(n: int, m2: np.ndarray) -> np.ndarray:
    return m2 / (n - 1) / n


def _noncentrality(t: np.ndarray, df: np.ndarray, probability: float) -> np.ndarray:
    """Solve noncentral t's `F(t) = probability` for ncp: one root per t, or a spline when many share one df."""
    t = np.asarray(t, dtype=np.float64)
    finite = np.isfinite(t)
    if t.size <= _MANY_LIMITS or np.ndim(df) > 0:
        return np.asarray(np.where(finite, _solve_noncentrality(np.where(finite, t, 0.0), df, probability), t))
    if not finite.any():
        return t
    # the limit is almost linear in t except around 0, where equal steps of arcsinh(t) are densest
    x = np.arcsinh(np.where(finite, t, 0.0))
    nodes = _LIMIT_STEP * np.arange(np.floor(x.min() / _LIMIT_STEP) - 3, np.ceil(x.max() / _LIMIT_STEP) + 4)
    return np.asarray(np.where(finite, spline(nodes, _solve_noncentrality(np.sinh(nodes), df, probability))(x), t))


def _solve_noncentrality(t: np.ndarray, df: np.ndarray, probability: float) -> np.ndarray:
    """Return SciPy's root (accurate to 1e-5; 1e-3 around t = 0), improved by one Newton step."""
    root = nctdtrinc(df, probability, t)
    step = 1e-4
    slope = (nctdtr(df, root + step, t) - nctdtr(df, root - step, t)) / (2 * step)
    miss = nctdtr(df, root, t) - probability
    better = root - np.divide(miss, slope, out=np.zeros_like(root), where=slope < 0)
    return np.asarray(np.where(np.abs(better - root) < 0.01, better, root))
