"""Colours of values without a colour of their own: a fixed palette by position, a hash of the name without a theory."""

from __future__ import annotations

import colorsys
import hashlib

#: Distinct on white and in greyscale order of use; neighbours in the list differ in hue.
PALETTE = (
    "#3472c9", "#e07b26", "#2f9e57", "#d8428c", "#7b4fc9", "#b99a10",
    "#17929b", "#e2504a", "#7da21c", "#b146b8", "#8a5a3c", "#5b6b7f",
)  # fmt: skip


def colour_at(index: int) -> str:
    """Return the colour of the value at an index: the palette first, then hues at the golden angle.

    Args:
        index: Index of the value in its theory.
    """
    return PALETTE[index] if index < len(PALETTE) else _hue(index * 0.381966)


def colour_of_name(name: str) -> str:
    """Return a colour that depends only on the name, for a value of no known theory.

    Args:
        name: Name of the value.
    """
    return _hue(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32)


def _hue(turn: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(turn % 1.0, 0.45, 0.55)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
