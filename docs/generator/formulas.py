r"""Formulas as pictures in the page: MathJax would be fetched from the network.

pymdownx.arithmatex marks formulas; matplotlib's mathtext gives their outlines. It knows a part of TeX, so that a few
commands are replaced by what it knows: `\tfrac` by `\frac`, delimiters of a fixed size by plain ones.
"""

from __future__ import annotations

import html
import re
from functools import cache

MARKED = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
#: Points of the outlines; ten units are one point.
SIZE = 100
#: TeX that mathtext lacks -> what it knows.
PLAIN = (
    (r"\\(?:big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])", ""),
    (r"\\[lr]vert(?![a-zA-Z])", "|"),
    (r"\\[lr]Vert(?![a-zA-Z])", r"\\Vert "),
    (r"\\tfrac(?![a-zA-Z])", r"\\frac"),
    (r"\\tfrac12", r"\\frac{1}{2}"),
    (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac(\d)\{", r"\\frac{\1}{"),
    (r"\\bmod(?![a-zA-Z])", r"\\ \\mathrm{mod}\\ "),
    (r"\\mathbb ?1", r"\\mathbf{1}"),
    (r"\\text ?\{([^{}]*)\}", lambda match: r"\mathrm{" + match[1].replace(" ", r"\ ") + "}"),
    (r"\\top(?![a-zA-Z])", r"\\mathsf{T}"),
    (r"\\(ge|le|ne)(?![a-zA-Z])", r"\\\1q"),
    (r"(?<!\d)\.(?=\d)", "0."),  # mathtext puts a space after a point that follows no digit
    (r"~", r"\\ "),
    (r"\\(hat|bar|tilde) ?\\([a-zA-Z]+)", r"\\\1{\\\2}"),
    (r"\\(hat|bar|tilde) ([a-zA-Z])", r"\\\1{\2}"),
)  # fmt: skip


def plain(tex: str) -> str:
    """Return a formula in the part of TeX that mathtext knows."""
    for pattern, new in PLAIN:
        tex = re.sub(pattern, new, tex)
    return tex.strip()


@cache
def picture(tex: str, display: bool = False) -> str:
    """Return a formula as inline SVG in the colour of the text, with its TeX as the alternative text.

    Args:
        tex: The formula, without delimiters.
        display: Whether it stands on a line of its own.

    Raises:
        ValueError: mathtext cannot read the formula.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    outlines = TextToPath()
    font = FontProperties(family="DejaVu Sans", size=SIZE, math_fontfamily="cm")
    source = f"${plain(tex)}$"
    width, height, depth = outlines.get_text_width_height_descent(source, font, ismath=True)
    vertices, codes = outlines.get_text_path(font, source, ismath=True)
    commands, path, index = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}, [], 0
    while index < len(codes):
        code = int(codes[index])
        length = {3: 2, 4: 3}.get(code, 1)
        points = [] if code == 79 else vertices[index : index + length]
        path.append(commands[code] + " ".join(f"{round(x)} {round(-y)}" for x, y in points))
        index += length
    em = SIZE
    box = f"0 {round(depth - height)} {round(width)} {round(height)}"
    style = f"width:{width / em:.2f}em;height:{height / em:.2f}em;vertical-align:{-depth / em:.2f}em"
    label = html.escape(tex, quote=True)
    kind = "formula display" if display else "formula"
    return (
        f'<svg class="{kind}" role="img" aria-label="{label}" viewBox="{box}" style="{style}">'
        f'<path fill="currentColor" d="{"".join(path)}"/></svg>'
    )


def draw(page: str) -> str:
    """Return a page with its marked formulas drawn.

    Raises:
        ValueError: A formula cannot be read; the message names it.
    """

    def drawn(match: re.Match[str]) -> str:
        tex = html.unescape(match[2]).strip().removeprefix("\\(").removesuffix("\\)")
        display = match[1] == "div"
        tex = tex.removeprefix("\\[").removesuffix("\\]").strip()
        try:
            svg = picture(tex, display)
        except ValueError as error:
            raise ValueError(f"formula {tex!r}: {error}") from error
        return f'<div class="formula-line">{svg}</div>' if display else svg

    return MARKED.sub(drawn, page)
