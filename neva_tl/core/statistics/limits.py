"""Limits of intervals: none excludes its own estimate.

Every interval of the package ends here. Resampling, exact limits and rounding can each put both limits on one side of the
estimate; a table that prints such an interval contradicts itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float


def containing(estimate: Any, lo: Any, hi: Any) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Move each limit that lies beyond the estimate to the estimate.

    `lo' = min(lo, estimate)`, `hi' = max(hi, estimate)`. For analytic limits (Wilson, Welch, Bonett and Price, noncentral t),
    where only rounding, a shrunken estimate or a low level of coverage can exclude it.

    Args:
        estimate: Estimates; they broadcast against the limits.
        lo: Lower limits.
        hi: Upper limits.

    Returns:
        Both limits; NaN where the estimate or the limit is NaN.

    Example:
        >>> low, high = nv.statistics.containing(np.array([0.5]), np.array([0.6]), np.array([0.9]))
        >>> low, high
        (array([0.5]), array([0.9]))
    """
    point, low, high = (np.asarray(x, dtype=np.float64) for x in (estimate, lo, hi))
    return np.asarray(np.minimum(low, point)), np.asarray(np.maximum(high, point))


def shifted(
    estimate: Any, lo: Any, middle: Any, hi: Any, *, always: bool = False
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    """Shift the percentiles of bootstrap draws so that the median draw is the estimate.

    `lo' = min(lo + s, estimate)`, `hi' = max(hi + s, estimate)` with `s = estimate - median of the draws` where the
    percentiles exclude the estimate (everywhere with `always`), else 0 (ours). Noise biases positive parts, absolute
    values, ratios and correlations once on the data and a second time on every resample; the shift removes the second
    bias, not the first. The basic bootstrap excludes the estimate wherever the percentiles do, and BCa wherever nearly
    all draws lie on one side of it.

    Args:
        estimate: Estimates on the data.
        lo: Lower percentiles.
        middle: Median draws.
        hi: Upper percentiles.
        always: Shift also where the percentiles contain the estimate, for statistics that resampling is known to bias.

    Returns:
        Both limits; NaN where a shift is needed and the median draw is infinite.

    Example:
        >>> estimate, middle = np.array([0.5]), np.array([0.6])
        >>> low, high = nv.statistics.shifted(estimate, np.array([0.5]), middle, np.array([0.7]), always=True)
        >>> low.round(2), high.round(2)
        (array([0.4]), array([0.6]))
    """
    point, low, centre, high = (np.asarray(x, dtype=np.float64) for x in (estimate, lo, middle, hi))
    moved = always | (point < low) | (point > high)
    with np.errstate(invalid="ignore"):
        by = np.where(moved, np.where(np.isfinite(centre), point - centre, np.nan), 0.0)
        return containing(point, low + by, high + by)


def wilson(count: int | float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of the share `count / n` (Wilson 1927, statsmodels).

    At 0 and 1 rounding alone puts a limit beyond the share, which is then that limit.

    Args:
        count: Number of successes.
        n: Number of trials, at least 1.
        level: Coverage.

    Example:
        >>> low, high = nv.statistics.wilson(8, 10)
        >>> round(low, 2), round(high, 2)
        (0.49, 0.94)
    """
    from statsmodels.stats.proportion import proportion_confint

    # 1 - .95 is not .05 in floating point, which moves the last digit of the limits
    alpha = round(1 - level, 12)
    lo, hi = containing(count / n, *proportion_confint(count, n, alpha=alpha, method="wilson"))
    return float(lo), float(hi)
