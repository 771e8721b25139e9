"""Estimates with intervals, the common form of all measured numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.cards import card
from neva_tl.core.formatting import plain_interval
from neva_tl.core.statistics import shifted

#: Minimum share of usable draws for an interval; with fewer, percentiles would describe a biased selection of draws.
_MIN_USABLE = 0.9


@dataclass(frozen=True)
class Estimate:
    """A point estimate with its interval and number of items; `None` where the quantity is undefined.

    Attributes:
        est: Point estimate.
        lo: Lower bound of the interval.
        hi: Upper bound of the interval.
        n: Number of items.

    Example:
        >>> gain = nv.evaluation.Estimate(0.41, 0.30, 0.52, 60)
        >>> gain.est, (gain.lo, gain.hi)
        (0.41, (0.3, 0.52))
    """

    est: float | None
    lo: float | None
    hi: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """Return `{"est", "lo", "hi", "n"}` with every number finite or None, since JSON has no NaN."""
        return {"est": _finite(self.est), "lo": _finite(self.lo), "hi": _finite(self.hi), "n": int(self.n)}

    def columns(self, name: str) -> dict[str, float | None]:
        """Return the columns `{name, name_lo, name_hi}` of a table.

        Args:
            name: Name of the quantity.
        """
        return {name: self.est, f"{name}_lo": self.lo, f"{name}_hi": self.hi}

    def _repr_html_(self) -> str:
        return card("Estimate", {"est": self.est, "lo": self.lo, "hi": self.hi, "n": self.n})

    def show(self) -> Any:
        """Draw the estimate with its interval (matplotlib)."""
        from neva_tl.plots import interval_plot

        row = {"label": f"n = {self.n}", "est": _nan(self.est), "lo": _nan(self.lo), "hi": _nan(self.hi)}
        return interval_plot(pd.DataFrame([row]), title=str(self))

    def __str__(self) -> str:
        return plain_interval(self.est, self.lo, self.hi)


def _nan(x: float | None) -> float:
    return math.nan if x is None else float(x)


def null(n: int = 0) -> Estimate:
    """Return an undefined estimate (e.g. of a ratio with a denominator that may be zero).

    Args:
        n: Number of items.
    """
    return Estimate(None, None, None, n)


def interval(
    est: float,
    draws: Float[np.ndarray, " b"],
    n: int,
    level: float = 0.95,
    *,
    recentre: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Compute the percentile interval of bootstrap draws, which contains the point estimate.

    The draws of a biased statistic are shifted so that their median is the estimate; the draws of all others are shifted
    where their percentiles exclude it. Formula and reasons: `statistics.limits.shifted`.

    Args:
        est: Estimate on the data.
        draws: The same statistic on resampled data; NaN where a resample leaves it undefined, `inf` where a ratio's
            denominator is not positive (counted on the upper side).
        n: Number of items.
        level: Nominal coverage.
        recentre: Shift the draws of a statistic that resampling biases.
        bounds: Smallest and largest possible value of the statistic; a shifted interval ends there.

    Returns:
        The estimate; without an interval if too few draws are usable, or if a shift is needed and the median draw is infinite.
    """
    point = _finite(float(est))
    usable = draws[~np.isnan(draws)]
    if point is None or len(usable) < max(2.0, _MIN_USABLE * len(draws)):
        return Estimate(point, None, None, n)
    tail = (1.0 - level) / 2.0
    # "lower" and "higher" do not interpolate; interpolation between a finite and an infinite draw would give NaN
    lo = float(np.quantile(usable, tail, method="higher"))
    middle = float(np.quantile(usable, 0.5, method="lower"))
    hi = float(np.quantile(usable, 1.0 - tail, method="lower"))
    if not math.isfinite(lo):
        return Estimate(point, None, None, n)
    lo, hi = (float(x) for x in shifted(point, lo, middle, hi, always=recentre))
    if bounds is not None:
        # rounding may put the estimate itself beyond its bounds
        lo, hi = max(lo, min(bounds[0], point)), min(hi, max(bounds[1], point))
    return Estimate(point, _finite(lo), _finite(hi), n)


def _finite(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else float(x)
