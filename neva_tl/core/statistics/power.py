"""Power of the t tests in `effects`, required sample sizes and detectable effects."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.kinds import Count, Delta
from neva_tl.core.statistics.effects import critical_t
from neva_tl.core.statistics.tails import two_tails

#: Largest sample size considered; beyond it `pairs_needed` returns None.
_MOST = 10_000_000


@check_arguments
def power_of_t(g: float, n: Count, *, alpha: float = 0.05, delta: Delta = 0.0, paired: bool = True) -> float:
    """Compute the probability that the (minimum-effect) t test rejects at population effect g.

    The critical value c solves `P(|T| >= c) = alpha` for `T ~ noncentral t(df, delta root_n)`; the power is
    `P(|T| >= c)` at noncentrality `g root_n`. delta = 0 is the two-sided t test.

    Args:
        g: Population effect (d_z of pairs, or d of two independent groups).
        n: Pairs, or observations in each of the two groups.
        alpha: Level.
        delta: Smallest effect of interest.
        paired: Whether the design is paired (else two independent groups).

    Raises:
        InputError: Fewer than two pairs, or alpha outside (0, 1).

    Example:
        >>> round(nv.statistics.power_of_t(0.5, 34), 2)
        0.81
    """
    df, root_n, critical = _test(n, alpha, delta, paired)
    return float(two_tails(critical, df, abs(g) * root_n))


@check_arguments
def pairs_needed(
    g: float, *, power: float = 0.8, alpha: float = 0.05, delta: Delta = 0.0, paired: bool = True
) -> int | None:
    """Compute the smallest n (pairs, or observations per group) at which the test reaches a power.

    Args:
        g: See `power_of_t`.
        power: Power to reach.
        alpha: See `power_of_t`.
        delta: See `power_of_t`.
        paired: See `power_of_t`.

    Returns:
        The sample size, or None when no n up to ten million reaches the power.

    Raises:
        InputError: A power outside (0, 1).

    Example:
        >>> nv.statistics.pairs_needed(0.5)
        34
    """
    if not 0 < power < 1:
        raise InputError(f"power {power} is not between 0 and 1")
    if abs(g) <= delta:
        return None
    low, high = 1, 2
    while power_of_t(g, high, alpha=alpha, delta=delta, paired=paired) < power:
        low, high = high, high * 2
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of_t(g, middle, alpha=alpha, delta=delta, paired=paired) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


@check_arguments
def detectable_g(
    n: Count, *, power: float = 0.8, alpha: float = 0.05, delta: Delta = 0.0, paired: bool = True
) -> float:
    """Compute the smallest population effect that n pairs (or n per group) detect with a power.

    The inverse of `power_of_t` in g, which rises in |g|: the root of `power_of_t(g, n) = power` above delta.

    Args:
        n: See `power_of_t`.
        power: Power to reach.
        alpha: See `power_of_t`.
        delta: See `power_of_t`.
        paired: See `power_of_t`.

    Raises:
        InputError: A power outside (alpha, 1), or invalid arguments of `power_of_t`.

    Example:
        >>> round(nv.statistics.detectable_g(60), 2)
        0.37
    """
    if not alpha < power < 1:
        raise InputError(f"power {power} is not between alpha = {alpha} and 1")

    df, root_n, critical = _test(n, alpha, delta, paired)

    def excess(g: float) -> float:
        return float(two_tails(critical, df, abs(g) * root_n)) - power

    high = delta + 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, delta, high, xtol=1e-8))


def _test(n: int, alpha: float, delta: float, paired: bool) -> tuple[float, float, float]:
    """Compute df, root_n and critical |t| of the test on n pairs (or n observations in each group)."""
    if n < 2 or not 0 < alpha < 1 or delta < 0:
        raise InputError(f"power needs n >= 2, 0 < alpha < 1 and delta >= 0: got n={n}, alpha={alpha}, delta={delta}")
    df, root_n = (float(n - 1), float(np.sqrt(n))) if paired else (2.0 * n - 2, float(np.sqrt(n / 2)))
    return df, root_n, critical_t(df, delta * root_n, alpha)
