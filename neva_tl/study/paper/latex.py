"""LaTeX from plain text and rows of cells."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from neva_tl.core.formatting import DASH, MINUS

#: Character -> LaTeX. All of LaTeX's special characters, and those of our own labels that pdfLaTeX's fonts lack.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    MINUS: "$-$",
    DASH: "--",
    "—": "---",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "…": r"\ldots{}",
}


def escape(text: object) -> str:
    r"""Escape text for LaTeX, in one line.

    Control and format characters (line breaks, marks of writing direction) become spaces. Letters of other scripts stay: they
    need XeLaTeX or LuaLaTeX.

    Args:
        text: Anything; its `str` is taken.

    Example:
        >>> from neva_tl.study.paper.latex import escape
        >>> escape("50 % of {x}_1")
        '50 \\% of \\{x\\}\\_1'
    """
    plain = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in str(text))
    return "".join(SPECIAL.get(character, character) for character in " ".join(plain.split()))


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
    label: str,
    wide: bool = False,
    texts: int = 1,
) -> str:
    """Build a floating booktabs table.

    Args:
        header: Names of the columns, escaped.
        rows: Cells, escaped.
        caption: Caption, escaped.
        label: Label, written as `tab:LABEL`.
        wide: Span both columns of the page.
        texts: The first columns that hold text, aligned left; all others are aligned right.
    """
    environment = "table*" if wide else "table"
    alignment = "l" * texts + "r" * (len(header) - texts)
    lines = [
        rf"\begin{{{environment}}}[t]",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def figure(name: str, *, caption: str, wide: bool = False) -> str:
    """Build a floating figure of `NAME.pdf`.

    Args:
        name: Name of the figure; its label is `fig:NAME`.
        caption: Caption, escaped.
        wide: Span both columns of the page.
    """
    environment = "figure*" if wide else "figure"
    width = r"\textwidth" if wide else r"\columnwidth"
    lines = [
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        rf"\includegraphics[width={width}]{{{name}.pdf}}",
        rf"\caption{{{caption}}}",
        rf"\label{{fig:{name}}}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def listed(items: Sequence[str]) -> str:
    """Join words as in a sentence: `a, b and c`."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
