"""Numbers as text: labels, tables, reports and cards.

A real minus sign (U+2212) and a dash (U+2013) for a missing number, unless a function says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

MINUS, DASH = "−", "–"


def finite_number(raw: Any) -> float | None:
    """Convert to a finite float.

    Args:
        raw: A number, a numeric string, or a missing value (None, NA, NaN, infinity, other text).

    Returns:
        The number, or None for a missing value.
    """
    try:
        number = float(raw)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def fixed(raw: Any, digits: int = 2) -> str:
    """Format with a fixed number of decimals: `0.50`, `−0.13`; a rounded zero has no sign.

    Args:
        raw: See `finite_number`.
        digits: Decimals.
    """
    number = finite_number(raw)
    if number is None:
        return DASH
    text = f"{number:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.replace("-", "")


def short(number: float, digits: int = 2, fixed: bool = False) -> str:
    """Format without a leading zero, for axes and cells: 0.40 -> `.4`, -0.05 -> `−.05`.

    Args:
        number: A float; NaN and infinities become a dash.
        digits: Decimals.
        fixed: Keep trailing zeros (a rounded zero is `0` all the same).
    """
    if not math.isfinite(number):
        return DASH
    text = f"{abs(number):.{digits}f}"
    if float(text) == 0 or not fixed:
        text = text.rstrip("0").rstrip(".") or "0"
    if text.startswith("0."):
        text = text[1:]
    return text if number >= 0 or text == "0" else MINUS + text


def signed(number: Any) -> str:
    """Format with three significant digits and a sign: `+0.412`, `−1.2e−5`.

    Args:
        number: An int or a float; anything else, NaN and infinities become a dash.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return DASH
    if number == 0:
        return "0"
    size = abs(number)
    text = f"{size:.2e}" if size < 1e-3 or size >= 1e4 else f"{size:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return ("+" if number > 0 else MINUS) + text.replace("e-0", "e−").replace("e+0", "e").replace("-", MINUS)


def interval(estimate: Any, low: Any, high: Any, digits: int = 2) -> str:
    """Format an estimate with its interval: `0.42 [0.38, 0.46]`.

    Args:
        estimate: See `finite_number`; a missing one becomes a dash.
        low: Lower limit.
        high: Upper limit. The estimate appears alone where either limit is missing.
        digits: Decimals.
    """
    text = fixed(estimate, digits)
    if text == DASH or finite_number(low) is None or finite_number(high) is None:
        return text
    return f"{text} [{fixed(low, digits)}, {fixed(high, digits)}]"


def plain_interval(estimate: float | None, low: float | None, high: float | None) -> str:
    """Format an estimate with its interval in ASCII, for terminals and logs: `-0.42 [-0.46, -0.38]`.

    Args:
        estimate: None, NaN and infinities become `n/a`.
        low: Lower limit.
        high: Upper limit. The estimate appears alone where either limit is missing.
    """
    if finite_number(estimate) is None:
        return "n/a"
    text = f"{estimate:.2f}"
    if finite_number(low) is None or finite_number(high) is None:
        return text
    return f"{text} [{low:.2f}, {high:.2f}]"


def format_fact(value: Any) -> str:
    """Format one fact of a card: floats with three digits, integers with thousands separators.

    Args:
        value: Anything; None and NaN become a dash.
    """
    if value is None or (isinstance(value, float) and value != value):
        return DASH
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
