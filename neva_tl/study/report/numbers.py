"""Numbers as text for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neva_tl.core.formatting import finite_number as finite
from neva_tl.core.formatting import fixed, interval


def p_text(raw: Any) -> str:
    """Format a p-value: `< 0.001` below that, else three decimals."""
    number = finite(raw)
    return "–" if number is None else "< 0.001" if number < 0.001 else fixed(number, 3)


def percent(raw: Any) -> str:
    """Format a share in per cent, with one decimal below ten."""
    number = finite(raw)
    return "–" if number is None else f"{fixed(100 * number, 1 if abs(number) < 0.1 else 0)} %"


def measure(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Format a measure (`est`, `lo`, `hi`) of results.json."""
    return "–" if not entry else interval(entry.get("est"), entry.get("lo"), entry.get("hi"), digits)


def estimate(entry: Mapping[str, Any] | None) -> float | None:
    """Return the estimate of a measure of results.json."""
    return finite(entry.get("est")) if entry else None
