"""CircuitsVis views that work offline and show hostile text as text.

CircuitsVis itself requests its bundle from the network for each view, puts all text unescaped into a script element, so that
a label `</script>` would end the script, and shows tokens as HTML, so that a token `<img onerror=...>` would run. This module
takes the bundle from the installed package, passes data as an inert JSON block with `<` escaped, and escapes tokens as HTML
where CircuitsVis reads them as HTML. Several views in one page share one bundle: put `Widget.bare` of each into the page and
`bundle()` once, last.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.plots.pages import asset, json_text, write_page

#: Longest token, in characters, on the axes of an attention pattern, whose labels cannot wrap.
LONGEST = 24
#: CircuitsVis assumes a white page; long tokens wrap inside the box.
GROUND = (
    "min-height:40px;padding:.2rem .6rem;background:#fff;color:#1c1f24;color-scheme:light;overflow-x:auto;"
    "overflow-wrap:anywhere;font-family:system-ui,sans-serif"
)


@dataclass(frozen=True)
class Widget:
    """A view for a notebook or a page.

    Attributes:
        element: name of the view in CircuitsVis.
        props: data of the view as JSON that is safe in a script element.

    Example:
        >>> widget = nv.plots.colored_tokens(["mara", " says"], [0.2, -0.4])
        >>> widget.save("tokens.html").name
        'tokens.html'
    """

    element: str
    props: str = field(repr=False)

    __repr__ = brief

    @property
    def bare(self) -> str:
        """HTML of the view for a page that has the 1.3 MB `bundle()` after it."""
        return (
            f'<div class="neva-widget" data-element="{html.escape(self.element)}" style="{GROUND}">'
            '<div class="neva-mount" style="margin:15px 0"></div>'
            f'<script type="application/json" class="neva-props">{self.props}</script></div>'
        )

    @property
    def html(self) -> str:
        """HTML of the view with its bundle, for any page, offline too."""
        return f"{self.bare}{bundle()}"

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write a page with this view alone, and return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_page(
            path,
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>neva_tl</title></head>'
            f"<body>{self.html}</body></html>",
        )


@functools.cache
def bundle() -> str:
    """Return the scripts that draw every `Widget.bare` before them.

    The script of CircuitsVis is inert text until the first view comes into sight.

    Raises:
        InputError: CircuitsVis is not installed.

    Example:
        >>> page = nv.plots.colored_tokens(["mara"], [0.2]).bare + nv.plots.bundle()
    """
    code = (_package() / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    code = code.split("//# sourceMappingURL=")[0]
    # inside a string of the bundle these tags would end its script element or change how the page is parsed
    for tag in ("<script", "</script", "<!--"):
        code = code.replace(tag, f"\\x3c{tag[1:]}")
    return (
        f'<script type="text/plain" class="neva-circuitsvis">{code}</script><script>{asset("widgets.js.j2")}</script>'
    )


def _package() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("circuitsvis")
    if spec is None or spec.origin is None:
        raise InputError("this view needs CircuitsVis: pip install 'neva_tl[viz]'")
    return Path(spec.origin).parent


def neuron_activations(
    tokens: Sequence[str] | Sequence[Sequence[str]],
    activations: Any,
    labels: Sequence[str],
) -> Widget:
    """Show activations of selected neurons over one or several texts.

    A drop-down menu selects the neuron.

    Args:
        tokens: tokens of the text, or one list per text.
        activations: `[n_tokens, n_neurons]` of the selected neurons, or one array per text. Select few: all neurons of a
            model make a page of many megabytes.
        labels: a name per neuron, such as `L3.127`.

    Returns:
        The view.

    Raises:
        InputError: Shapes do not fit, numbers are not finite, or CircuitsVis is not installed.

    Example:
        >>> activations = np.array([[0.1, 0.0], [0.7, 0.2]])  # tokens, neurons
        >>> nv.plots.neuron_activations(["mara", " says"], activations, ["L2.7", "L3.1"]).element
        'TextNeuronActivations'
    """
    single = len(tokens) == 0 or isinstance(tokens[0], str)
    texts: list[list[str]] = [[str(token) for token in text] for text in ([tokens] if single else tokens)]
    arrays = (
        [activations] if isinstance(activations, np.ndarray) or hasattr(activations, "detach") else list(activations)
    )
    arrays = [_array(array) for array in arrays]
    if len(texts) != len(arrays):
        raise InputError(f"{len(texts)} texts but {len(arrays)} arrays of activations: one array per text")
    for index, (text, array) in enumerate(zip(texts, arrays, strict=True)):
        if array.shape != (len(text), len(labels)):
            raise InputError(
                f"activations of text {index} have shape {array.shape}: "
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
    """Show one number per token as the token's background, red above 0 and blue below.

    Args:
        tokens: tokens of the text.
        values: one number per token.
        negative_color: CSS colour of the smallest number.
        positive_color: CSS colour of the largest number.

    Returns:
        The view.

    Raises:
        InputError: Lengths differ, numbers are not finite, or CircuitsVis is not installed.

    Example:
        >>> nv.plots.colored_tokens(["mara", " says"], [0.2, -0.4]).element
        'ColoredTokens'
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
    """Show attention patterns of some heads over one text.

    Each head has a small picture; the selected one is large.

    Args:
        tokens: tokens of the text; those longer than 24 characters are cut (labels of an axis cannot wrap).
        patterns: `[n_heads, n_tokens, n_tokens]`, from destination to source; above the diagonal is masked.
        labels: a name per head, such as `L2.H1`.
        color: CSS colour of full attention.

    Returns:
        The view.

    Raises:
        InputError: Shapes do not fit, numbers are not finite, the list of heads is empty, or CircuitsVis is not installed.

    Example:
        >>> patterns = np.tril(np.full((1, 2, 2), 0.5))  # heads, tokens, tokens
        >>> nv.plots.attention(["mara", " says"], patterns, ["L1.H0"]).element
        'AttentionHeads'
    """
    array = _array(patterns)
    if not len(labels):
        raise InputError("no heads: an attention view needs at least one")
    if array.shape != (len(labels), len(tokens), len(tokens)):
        raise InputError(
            f"patterns have shape {array.shape}: {len(labels)} labels and {len(tokens)} tokens need "
            f"({len(labels)}, {len(tokens)}, {len(tokens)})"
        )
    # CircuitsVis draws these on a canvas and as text nodes, never as HTML
    return _widget(
        "AttentionHeads",
        tokens=[str(t) if len(str(t)) <= LONGEST else f"{str(t)[: LONGEST - 1]}…" for t in tokens],
        attention=array.tolist(),
        attentionHeadNames=[str(label) for label in labels],
        positiveColor=color,
    )


def _as_html(token: str) -> str:
    """Escape a token's text as HTML; NUL, which HTML drops, becomes its symbol."""
    return html.escape(str(token), quote=False).replace("\0", "\u2400")


def _array(raw: Any) -> np.ndarray:
    if hasattr(raw, "detach"):  # a torch tensor; this module does not import torch
        raw = raw.detach().float().cpu().numpy()
    array = np.asarray(raw, dtype=float)
    if not np.isfinite(array).all():
        raise InputError("activations hold numbers that are not finite: nothing can be drawn from them")
    return array


def _widget(element: str, **props: Any) -> Widget:
    _package()
    return Widget(element, str(json_text(props)))
