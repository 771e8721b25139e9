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


def limits(entry: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """Return both limits of a measure's interval; None where one is missing."""
    low, high = (finite(entry.get(side)) if entry else None for side in ("lo", "hi"))
    return None if low is None or high is None else (low, high)


def overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two measures' intervals overlap."""
    first, second = limits(a), limits(b)
    return first is not None and second is not None and max(first[0], second[0]) <= min(first[1], second[1])


def excludes_zero(entry: Mapping[str, Any] | None) -> bool:
    """Whether a measure's interval excludes 0; a measure without an interval counts as excluding it."""
    ends = limits(entry)
    return ends is None or ends[0] > 0 or ends[1] < 0
