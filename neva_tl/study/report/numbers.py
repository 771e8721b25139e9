"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def finite(raw: Any) -> float | None:
    """The number, or None where there is none (None, NA, NaN, infinite, text)."""
    try:
        number = float(raw)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def fixed(raw: Any, digits: int = 2) -> str:
    """Two decimals with a real minus sign; a dash where there is no number."""
    number = finite(raw)
    if number is None:
        return "–"
    text = f"{number:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def p_text(raw: Any) -> str:
    """A p-value: `< .001` below that, else three decimals."""
    number = finite(raw)
    return "–" if number is None else "< 0.001" if number < 0.001 else fixed(number, 3)


def percent(raw: Any) -> str:
    """A share in per cent, one decimal below ten."""
    number = finite(raw)
    return "–" if number is None else f"{fixed(100 * number, 1 if abs(number) < 0.1 else 0)} %"


def interval(estimate: Any, low: Any, high: Any, digits: int = 2) -> str:
    """`.42 [.38, .46]`; the estimate alone where there is no interval."""
    text = fixed(estimate, digits)
    if text == "–" or finite(low) is None or finite(high) is None:
        return text
    return f"{text} [{fixed(low, digits)}, {fixed(high, digits)}]"


def measure(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """An `M` of results.json as text."""
    return "–" if not entry else interval(entry.get("est"), entry.get("lo"), entry.get("hi"), digits)


def estimate(entry: Mapping[str, Any] | None) -> float | None:
    """The estimate of an `M`."""
    return finite(entry.get("est")) if entry else None
