"""Widths, fonts and font sizes of journals, from tueplots where it has them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from matplotlib.font_manager import get_font_names
from tueplots import figsizes, fonts, fontsizes

from neva_tl.core.errors import InputError

Style = Literal["notebook", "neurips", "icml", "acl", "nature"]
Width = Literal["column", "text"] | float

#: No text of a figure is smaller, in points at the width asked for.
SMALLEST = 6.0
#: Narrowest and widest figure in inches: below, no label fits; above, the number is in another unit.
NARROWEST, WIDEST = 2.0, 40.0
#: Fonts that matplotlib ships: the first for journals in Times, the second for all others and for glyphs that a font lacks.
TIMES, SANS = "STIXGeneral", "DejaVu Sans"
MILLIMETRES = 25.4

#: The look of a notebook and of the report; journals replace fonts and sizes.
#: Type 42 fonts keep text editable in the PDF (journals require it); SVG text stays text too.
RC: Any = {
    "font.family": [SANS],
    "font.size": 8,
    "text.usetex": False,
    # hinting rounds the width of each letter to a pixel, so words placed by their computed width would touch
    "text.hinting": "none",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "neva_tl",
}
#: Settings in points that the floor of `SMALLEST` applies to.
SIZES = ("font.size", "axes.labelsize", "axes.titlesize", "legend.fontsize", "xtick.labelsize", "ytick.labelsize")


@dataclass(frozen=True)
class Journal:
    """Widths of a journal in inches, and its rcParams.

    Attributes:
        column: Width of a column of text.
        text: Width of the text block; equal to `column` where the page has one column.
        rc: Settings of matplotlib, all sizes at least `SMALLEST`.
    """

    column: float
    text: float
    rc: Any


@functools.cache
def journal(style: Any) -> Journal:
    """Return a journal's widths and settings.

    Widths, fonts and sizes of NeurIPS and ICML are those of tueplots. ACL (7.7 and 16 cm, Times) and Nature (89 and 183 mm, sans
    serif of 5 to 7 pt) are from their instructions to authors, because tueplots has neither. A font that is not on this machine
    is replaced by one that matplotlib ships.

    Args:
        style: Name of the style.

    Raises:
        InputError: The style is unknown.
    """
    if style not in get_args(Style):
        raise InputError(f"unknown style {style!r}: the styles are {', '.join(get_args(Style))}")
    if style == "notebook":
        return Journal(3.25, 6.75, RC)
    if style == "neurips":
        width = float(figsizes.neurips2024()["figure.figsize"][0])
        return Journal(width, width, _rc(fonts.neurips2024(), fontsizes.neurips2024()))
    if style == "icml":
        column, text = (
            float(size["figure.figsize"][0]) for size in (figsizes.icml2024_half(), figsizes.icml2024_full())
        )
        return Journal(column, text, _rc(fonts.icml2024(), fontsizes.icml2024()))
    if style == "acl":
        # ACL has Times and captions of 10 pt, as AISTATS has
        return Journal(77 / MILLIMETRES, 160 / MILLIMETRES, _rc(fonts.icml2024(), fontsizes.aistats2025()))
    sizes = dict.fromkeys(SIZES, 7.0) | dict.fromkeys(SIZES[3:], SMALLEST)
    return Journal(89 / MILLIMETRES, 183 / MILLIMETRES, _rc({"font.family": "sans-serif", **_helvetica()}, sizes))


def inches(style: Any, width: Any) -> float:
    """Return a width in inches.

    Args:
        style: Name of the style.
        width: `column`, `text`, or inches.

    Raises:
        InputError: The style or the width is unknown, or the number is not a width in inches.
    """
    page = journal(style)
    if width == "column":
        return page.column
    if width == "text":
        return page.text
    if isinstance(width, (str, bool)):
        raise InputError(f"unknown width {width!r}: pass 'column', 'text' or a number of inches")
    try:
        number = float(width)
    except (TypeError, ValueError):
        raise InputError(f"unknown width {width!r}: pass 'column', 'text' or a number of inches") from None
    if not math.isfinite(number) or not NARROWEST <= number <= WIDEST:
        raise InputError(f"a figure is {NARROWEST:g} to {WIDEST:g} inches wide, not {number:g}: pass width= in inches")
    return number


def _helvetica() -> dict[str, Any]:
    """Nature asks for Helvetica or Arial."""
    return {"font.sans-serif": ["Helvetica", "Arial", *fonts.icml2024()["font.sans-serif"]]}


def _rc(font: Mapping[str, Any], sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The package's settings with a journal's font and sizes.

    The family is a list of names that exist: glyphs that the first lacks (arrows, signs) come from the last.
    """
    serif = font["font.family"] == "serif"
    present = set(get_font_names())
    names = [name for name in font["font.serif" if serif else "font.sans-serif"] if name in present]
    family = list(dict.fromkeys([*names[:1], *([TIMES] if serif else []), SANS]))
    larger = {name: max(SMALLEST, float(sizes[name])) for name in SIZES if name in sizes}
    # titles of panels as large as labels: a journal's figure has its own caption below
    larger["axes.titlesize"] = larger["axes.labelsize"]
    return RC | larger | {"font.family": family, "mathtext.fontset": "stix" if serif else "dejavusans"}
