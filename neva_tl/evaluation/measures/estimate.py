"""An estimate with its interval: the one shape in which every measured number of neva_tl leaves the evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from neva_tl.core.cards import card
from neva_tl.core.formatting import plain_interval

#: With fewer usable draws than this share, a percentile would describe the draws that happened to work: no interval
#: then.
_MIN_USABLE = 0.9


@dataclass(frozen=True)
class Estimate:
    """A point estimate, its interval and the number of items behind it; `None` where the quantity is not defined."""

    est: float | None
    lo: float | None
    hi: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """`{"est", "lo", "hi", "n"}` with every number finite or None (JSON knows no NaN)."""
        return {"est": _finite(self.est), "lo": _finite(self.lo), "hi": _finite(self.hi), "n": int(self.n)}

    def columns(self, name: str) -> dict[str, float | None]:
        """`{name, name_lo, name_hi}`: how a table's row holds it."""
        return {name: self.est, f"{name}_lo": self.lo, f"{name}_hi": self.hi}

    def _repr_html_(self) -> str:
        return card("Estimate", {"est": self.est, "lo": self.lo, "hi": self.hi, "n": self.n})

    def show(self) -> Any:
        """The estimate with its interval as a matplotlib figure."""
        from neva_tl.plots import interval_plot

        row = {"label": f"n = {self.n}", "est": _nan(self.est), "lo": _nan(self.lo), "hi": _nan(self.hi)}
        return interval_plot(pd.DataFrame([row]), title=str(self))

    def __str__(self) -> str:
        return plain_interval(self.est, self.lo, self.hi)


def _nan(x: float | None) -> float:
    return math.nan if x is None else float(x)


def null(n: int = 0) -> Estimate:
    """The estimate of something that is not defined here (say a ratio whose denominator may be zero)."""
    return Estimate(None, None, None, n)


def interval(
    est: float, draws: Float[np.ndarray, " b"], n: int, level: float = 0.95, *, recentre: bool = False
) -> Estimate:
    """Percentile interval of bootstrap draws around a point estimate.

    Args:
        est: the estimate on the data as they are.
        draws: the same statistic on resampled data; NaN where a resample did not define it, `inf` where a ratio's
            denominator was not positive (it then counts on the upper side).
        n: number of items behind the estimate.
        level: coverage aimed at.
        recentre: shift the draws so that their median is the estimate. For statistics with a kink (positive parts):
            noise biases them once on the data and once more on every resample, and the shift takes the second bias out.
    """
    point = _finite(float(est))
    usable = draws[~np.isnan(draws)]
    if point is None or len(usable) < max(2.0, _MIN_USABLE * len(draws)):
        return Estimate(point, None, None, n)
    if recentre:
        middle = float(np.quantile(usable, 0.5, method="lower"))
        usable = usable + (point - middle) if math.isfinite(middle) else usable
    tail = (1.0 - level) / 2.0
    # "lower" and "higher" never interpolate, so an infinite draw cannot make a NaN out of its neighbour
    lo = float(np.quantile(usable, tail, method="higher"))
    hi = float(np.quantile(usable, 1.0 - tail, method="lower"))
    return Estimate(point, _finite(lo), _finite(hi), n)


def _finite(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else float(x)
