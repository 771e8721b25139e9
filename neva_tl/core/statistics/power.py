"""Power of the t tests in `effects`: how many pairs an effect needs, and which effect some pairs can show."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from neva_tl.core.errors import InputError
from neva_tl.core.statistics.effects import critical_t
from neva_tl.core.statistics.tails import two_tails

#: More pairs than this are reported as out of reach.
_MOST = 10_000_000


def power_of_t(g: float, n: int, *, alpha: float = 0.05, delta: float = 0.0, paired: bool = True) -> float:
    """Probability that the (minimum-effect) t test rejects when the population effect is g.

    The critical value c solves `P(|T| >= c) = alpha` for `T ~ noncentral t(df, delta root_n)`; the power is
    `P(|T| >= c)` at noncentrality `g root_n`. delta = 0 is the two-sided t test.

    Args:
        g: population effect (d_z of pairs, or d of two independent groups).
        n: pairs, or observations in each of the two groups.
        alpha: level.
        delta: smallest effect of interest.
        paired: which of the two designs.

    Raises:
        InputError: fewer than two pairs, or alpha outside (0, 1).
    """
    df, root_n, critical = _test(n, alpha, delta, paired)
    return float(two_tails(critical, df, abs(g) * root_n))


def pairs_needed(
    g: float, *, power: float = 0.8, alpha: float = 0.05, delta: float = 0.0, paired: bool = True
) -> int | None:
    """Smallest n (pairs, or observations per group) at which the test reaches the power; None if no n does.

    Raises:
        InputError: a power outside (0, 1).
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


def detectable_g(n: int, *, power: float = 0.8, alpha: float = 0.05, delta: float = 0.0, paired: bool = True) -> float:
    """Smallest population effect that n pairs (or n observations per group) show with this power.

    The inverse of `power_of_t` in g, which rises in |g|: the root of `power_of_t(g, n) = power` above delta.

    Raises:
        InputError: a power outside (alpha, 1), or what `power_of_t` refuses.
    """
    if not alpha < power < 1:
        raise InputError(f"power {power} is not between alpha = {alpha} and 1")

    df, root_n, critical = _test(n, alpha, delta, paired)

    def lacking(g: float) -> float:
        return float(two_tails(critical, df, abs(g) * root_n)) - power

    high = delta + 1.0
    while lacking(high) < 0:
        high *= 2
    return float(brentq(lacking, delta, high, xtol=1e-8))


def _test(n: int, alpha: float, delta: float, paired: bool) -> tuple[float, float, float]:
    """Degrees of freedom, root_n and critical |t| of the test on n pairs (or n observations in each group)."""
    if n < 2 or not 0 < alpha < 1 or delta < 0:
        raise InputError(f"power needs n >= 2, 0 < alpha < 1 and delta >= 0: got n={n}, alpha={alpha}, delta={delta}")
    df, root_n = (float(n - 1), float(np.sqrt(n))) if paired else (2.0 * n - 2, float(np.sqrt(n / 2)))
    return df, root_n, critical_t(df, delta * root_n, alpha)
