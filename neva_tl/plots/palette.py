"""Colours of methods and values, their second code (marker and dash), and contrast of text."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from matplotlib.colors import is_color_like, to_hex, to_rgb

from neva_tl.core.errors import InputError
from neva_tl.core.method_records import METHODS

#: Contrast of text that WCAG 2 asks for (AA).
CONTRAST = 4.5
#: Names in tables that mean a method registered under another name, and the colour of the unedited model.
ALIASES = {"role_prompt": "role", "shuffled": "label_shuffled"}
UNEDITED = "#3a3836"
_SPARE = ("#a05195", "#2a9d8f", "#bc8034", "#4f5d75", "#d45087", "#00798c")
#: Filled markers that remain distinct at 3 pt, and dashes. Their numbers have no common divisor, so that pairs repeat
#: after all products only.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)), (0, (8, 1.4, 2.4, 1.4)))
_PALETTE: ContextVar[Mapping[str, str] | None] = ContextVar("palette", default=None)


@contextmanager
def using_palette(palette: Any) -> Iterator[None]:
    """Draw with some colours replaced.

    Args:
        palette: Method, value or group name -> colour; names that a figure does not have are ignored. None changes nothing.

    Raises:
        InputError: An entry is not a colour of matplotlib.
    """
    if palette is None:
        yield
        return
    if not isinstance(palette, Mapping):
        raise InputError(f"palette is {palette!r}: pass a dict from the name of a method or value to its colour")
    for name, colour in palette.items():
        if not is_color_like(colour):
            raise InputError(f"the palette's colour of {name} is {colour!r}: pass a colour as '#rrggbb'")
    token = _PALETTE.set({**(_PALETTE.get() or {}), **{str(name): to_hex(one) for name, one in palette.items()}})
    try:
        yield
    finally:
        _PALETTE.reset(token)


def replaced(name: str, colour: str) -> str:
    """Return the colour that the figure's palette gives to a name, else the usual one.

    Args:
        name: Name of a method, value or group.
        colour: The usual colour.
    """
    palette = _PALETTE.get()
    return colour if palette is None else palette.get(name, colour)


def method_colour(method: str) -> str:
    """Return the method's colour, the same in every figure; an unknown name gets a spare one that depends on the name only.

    Args:
        method: A name in a table; it need not be registered.
    """
    record = METHODS.get(ALIASES.get(method, method))
    if record and record.colour:
        return replaced(method, record.colour)
    return replaced(method, UNEDITED if method == "unedited" else _SPARE[sum(method.encode()) % len(_SPARE)])


def method_code(method: str) -> dict[str, Any]:
    """Return marker and dash of a method as arguments of `Axes.plot`; no two registered methods share both.

    Args:
        method: A name in a table; it need not be registered.
    """
    name = ALIASES.get(method, method)
    return code(list(METHODS).index(name) if name in METHODS else len(METHODS) + _number(name))


def code(index: int) -> dict[str, Any]:
    """Return the marker and dash at an index.

    Args:
        index: Position in the order of figures.
    """
    return {"marker": MARKERS[index % len(MARKERS)], "linestyle": DASHES[index % len(DASHES)]}


def code_of_name(name: str, names: Iterable[str]) -> dict[str, Any]:
    """Return marker and dash of a name by its position among others, else by a hash of the name.

    Args:
        name: Name of a value.
        names: Names in order, as in their theory.
    """
    order = list(names)
    return code(order.index(name) if name in order else _number(name))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def luminance(colour: Any) -> float:
    """Return the relative luminance of a colour (WCAG 2), 0 for black to 1 for white.

    Args:
        colour: A colour of matplotlib; its alpha is ignored.
    """
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: Any, ground: Any = "white") -> float:
    """Return the contrast of two colours (WCAG 2), 1 to 21.

    Args:
        text: Colour of the text.
        ground: Colour below it.
    """
    light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def on(ground: Any) -> str:
    """Return the text colour, black or white, that is more readable on a ground.

    One of the two always has a contrast of at least 4.5.

    Args:
        ground: Colour below the text.
    """
    return max(("#000000", "#ffffff"), key=lambda text: contrast(text, ground))


@functools.lru_cache(maxsize=512)
def ink(colour: str) -> str:
    """Return a colour for text on white: the colour itself, darkened until its contrast is 4.5.

    Args:
        colour: Colour of lines or marks.
    """
    red, green, blue = to_rgb(colour)
    share = 1.0
    while contrast(text := to_hex((share * red, share * green, share * blue))) < CONTRAST:
        share -= 0.02
    return text
