"""Text of tokens and signed numbers as labels show them."""

from __future__ import annotations

import math
from typing import Any


def visible(token: str, longest: int = 16) -> str:
    """Token text for a label: spaces as `·`, control characters as symbols, long ones cut."""
    text = str(token)
    shown = "".join("·" if c == " " else c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def signed(number: Any) -> str:
    """`+0.412`, `−1.2e−5`: three significant digits, always with a sign; a dash where there is no number."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return "–"
    if number == 0:
        return "0"
    size = abs(number)
    text = f"{size:.2e}" if size < 1e-3 or size >= 1e4 else f"{size:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return ("+" if number > 0 else "−") + text.replace("e-0", "e−").replace("e+0", "e").replace("-", "−")
