"""CircuitsVis views that work offline and show hostile text as text.

CircuitsVis asks the network each time it prints itself, puts all text into a script element as it is, so that a label
`</script>` would end the script, and shows tokens as HTML, so that a token `<img onerror=...>` would run. Here its bundle is
taken from the installed package, data travel in an inert JSON block with `<` escaped, and tokens are escaped as HTML where
CircuitsVis reads them as HTML. Several views in one page share one bundle: put `Widget.bare` of each and `bundle()` once, last.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neva_tl.core.errors import InputError
from neva_tl.plots.pages import asset, json_text, write_page

#: Characters of a token on the axes of an attention pattern, whose labels cannot wrap.
LONGEST = 24
#: CircuitsVis paints for a white page; tokens of any length stay inside.
GROUND = (
    "min-height:40px;padding:.2rem .6rem;background:#fff;color:#1c1f24;color-scheme:light;overflow-x:auto;"
    "overflow-wrap:anywhere;font-family:system-ui,sans-serif"
)


@dataclass(frozen=True)
class Widget:
    """A view for a notebook or a page.

    Attributes:
        element: CircuitsVis' name of the view.
        props: its data as JSON that can stand in a script element.
    """

    element: str
    props: str = field(repr=False)

    @property
    def bare(self) -> str:
        """The view without the 1.3 MB bundle: it draws itself in a page that holds `bundle()` after it."""
        return (
            f'<div class="neva-widget" data-element="{html.escape(self.element)}" style="{GROUND}">'
            '<div class="neva-mount" style="margin:15px 0"></div>'
            f'<script type="application/json" class="neva-props">{self.props}</script></div>'
        )

    @property
    def html(self) -> str:
        """The view complete with its bundle: needs no network, and can be put into any page."""
        return f"{self.bare}{bundle()}"

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write a page with nothing but this view in it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_page(
            path,
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>neva_tl</title></head>'
            f"<body>{self.html}</body></html>",
        )


@functools.cache
def bundle() -> str:
    """CircuitsVis' script, inert until a view comes into sight, and ours that draws every `Widget.bare` before it.

    Raises:
        InputError: CircuitsVis is not installed.
    """
    code = (_package() / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    code = code.split("//# sourceMappingURL=")[0]
    # in a string of the bundle either would end its script element or change how the rest of the page is read
    for tag in ("<script", "</script", "<!--"):
        code = code.replace(tag, f"\\x3c{tag[1:]}")
    return (
        f'<script type="text/plain" class="neva-circuitsvis">{code}</script><script>{asset("widgets.js.j2")}</script>'
    )


def _package() -> Path:
    import importlib.util

    found = importlib.util.find_spec("circuitsvis")
    if found is None or found.origin is None:
        raise InputError("this view needs CircuitsVis: pip install 'neva_tl[viz]'")
    return Path(found.origin).parent


def neuron_activations(
    tokens: Sequence[str] | Sequence[Sequence[str]],
    activations: Any,
    labels: Sequence[str],
) -> Widget:
    """Activations of selected neurons over one text or several, a drop-down to choose the neuron.

    Args:
        tokens: the text's tokens, or one list per text.
        activations: `[n_tokens, n_neurons]` for the neurons chosen, or one array per text. Choose few:
            a whole model's neurons make a page of many megabytes.
        labels: a name per neuron, such as `L3.127`.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite, or CircuitsVis not installed.
    """
    single = len(tokens) == 0 or isinstance(tokens[0], str)
    texts: list[list[str]] = [[str(token) for token in text] for text in ([tokens] if single else tokens)]
    arrays = (
        [activations] if isinstance(activations, np.ndarray) or hasattr(activations, "detach") else list(activations)
    )
    arrays = [_array(array) for array in arrays]
    if len(texts) != len(arrays):
        raise InputError(f"{len(texts)} texts but {len(arrays)} arrays of activations: one array per text")
    for place, (text, array) in enumerate(zip(texts, arrays, strict=True)):
        if array.shape != (len(text), len(labels)):
            raise InputError(
                f"activations of text {place} have shape {array.shape}: "
                f"{len(text)} tokens and {len(labels)} labels need ({len(text)}, {len(labels)})"
            )
    return _widget(
        "TextNeuronActivations",
        tokens=[[_as_html(token) for token in text] for text in texts],
        activations=[array[:, None, :].tolist() for array in arrays],
        firstDimensionName="site",
        secondDimensionName="neuron",
        firstDimensionLabels=["post"],
        secondDimensionLabels=[str(label) for label in labels],
    )


def colored_tokens(
    tokens: Sequence[str],
    values: Any,
    *,
    negative_color: str = "#2166ac",
    positive_color: str = "#b2182b",
) -> Widget:
    """One number per token as the token's background: red above 0, blue below.

    Raises:
        InputError: lengths differ, numbers that are not finite, or CircuitsVis not installed.
    """
    array = _array(values)
    if array.shape != (len(tokens),):
        raise InputError(f"{len(tokens)} tokens but values of shape {array.shape}: one number per token")
    limit = float(np.abs(array).max(initial=0.0)) or 1.0

    return _widget(
        "ColoredTokens",
        tokens=[_as_html(token) for token in tokens],
        values=array.tolist(),
        minValue=-limit,
        maxValue=limit,
        negativeColor=negative_color,
        positiveColor=positive_color,
    )


def attention(tokens: Sequence[str], patterns: Any, labels: Sequence[str], *, color: str = "#12679e") -> Widget:
    """Attention patterns of some heads over one text: small ones to choose from, the chosen one large.

    Args:
        tokens: the text's tokens; longer ones than 24 characters are cut (an axis cannot wrap them).
        patterns: `[n_heads, n_tokens, n_tokens]`, from destination to source; above the diagonal is masked.
        labels: a name per head, such as `L2.H1`.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite, no heads, or CircuitsVis not installed.
    """
    array = _array(patterns)
    if not len(labels):
        raise InputError("no heads: an attention view needs at least one")
    if array.shape != (len(labels), len(tokens), len(tokens)):
        raise InputError(
            f"patterns have shape {array.shape}: {len(labels)} labels and {len(tokens)} tokens need "
            f"({len(labels)}, {len(tokens)}, {len(tokens)})"
        )
    # drawn on a canvas and as text nodes, never as HTML
    return _widget(
        "AttentionHeads",
        tokens=[str(t) if len(str(t)) <= LONGEST else f"{str(t)[: LONGEST - 1]}…" for t in tokens],
        attention=array.tolist(),
        attentionHeadNames=[str(label) for label in labels],
        positiveColor=color,
    )


def _as_html(token: str) -> str:
    """A token's text as the HTML that shows it; NUL, which HTML drops, as its symbol."""
    return html.escape(str(token), quote=False).replace("\0", "\u2400")


def _array(raw: Any) -> np.ndarray:
    if hasattr(raw, "detach"):  # a torch tensor, without importing torch here
        raw = raw.detach().float().cpu().numpy()
    array = np.asarray(raw, dtype=float)
    if not np.isfinite(array).all():
        raise InputError("activations hold numbers that are not finite: nothing can be drawn from them")
    return array


def _widget(element: str, **props: Any) -> Widget:
    _package()
    return Widget(element, str(json_text(props)))
