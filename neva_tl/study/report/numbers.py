"""Numbers as text for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def finite(raw: Any) -> float | None:
    """Return a finite number as float, else None (None, NA, NaN, infinite, text)."""
    try:
        number = float(raw)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def fixed(raw: Any, digits: int = 2) -> str:
    """Format with fixed decimals and a minus sign; a dash for a missing number."""
    number = finite(raw)
    if number is None:
        return "–"
    text = f"{number:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def p_text(raw: Any) -> str:
    """Format a p-value: `< 0.001` below that, else three decimals."""
    number = finite(raw)
    return "–" if number is None else "< 0.001" if number < 0.001 else fixed(number, 3)


def percent(raw: Any) -> str:
    """Format a share in per cent, with one decimal below ten."""
    number = finite(raw)
    return "–" if number is None else f"{fixed(100 * number, 1 if abs(number) < 0.1 else 0)} %"


def interval(estimate: Any, low: Any, high: Any, digits: int = 2) -> str:
    """Format `0.42 [0.38, 0.46]`, or the estimate alone without an interval."""
    text = fixed(estimate, digits)
    if text == "–" or finite(low) is None or finite(high) is None:
        return text
    return f"{text} [{fixed(low, digits)}, {fixed(high, digits)}]"


def measure(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Format a measure (`est`, `lo`, `hi`) of results.json."""
    return "–" if not entry else interval(entry.get("est"), entry.get("lo"), entry.get("hi"), digits)


def estimate(entry: Mapping[str, Any] | None) -> float | None:
    """Return the estimate of a measure of results.json."""
    return finite(entry.get("est")) if entry else None
