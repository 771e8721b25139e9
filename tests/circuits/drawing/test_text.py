"""Numbers with signs, and tokens as visible text."""

from __future__ import annotations

from neva_tl.circuits.drawing.text import visible
from neva_tl.core.formatting import signed


def test_signed_numbers() -> None:
    assert [signed(x) for x in (0.41249, -1.5, 123.4, 0, -0.0000123, 12345.6, None, float("nan"), True)] == [
        "+0.412", "−1.50", "+123", "0", "−1.23e−5", "+1.23e4", "–", "–", "–"
    ]  # fmt: skip
    assert visible(" a\x07\u202e" + "b" * 30, 12) == "·a\\x07\\x202…"
