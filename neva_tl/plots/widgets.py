"""CircuitsVis views that work offline and show hostile text as text.

CircuitsVis asks the network each time it prints itself, puts all text into a script element as it is, so that a label
`</script>` would end the script, and shows tokens as HTML, so that a token `<img onerror=...>` would run. Here the offline HTML
is taken at once, tokens are escaped as HTML, and every `<` that is left is handed to JavaScript as an escape.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neva_tl.errors import InputError


@dataclass(frozen=True)
class Widget:
    """A view for a notebook or a page: `html` is complete, needs no network, and can be put into any page.

    Each carries the 1.3 MB CircuitsVis bundle.
    """

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write a page with nothing but this view in it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>neva_tl</title></head>'
            f"<body>{self.html}</body></html>",
            encoding="utf-8",
        )
        temporary.replace(path)
        return path


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
    from_lists = [array[:, None, :] for array in arrays]

    def draw(safe: Callable[[str], str]) -> Any:
        module = _circuitsvis("activations")
        return module.text_neuron_activations(
            tokens=[[_as_html(token) for token in text] for text in texts],
            activations=from_lists,
            first_dimension_name="site",
            second_dimension_name="neuron",
            first_dimension_labels=["post"],
            second_dimension_labels=[safe(label) for label in labels],
        )

    return _offline(draw)


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

    def draw(safe: Callable[[str], str]) -> Any:
        return _circuitsvis("tokens").colored_tokens(
            tokens=[_as_html(token) for token in tokens],
            values=array,
            min_value=-limit,
            max_value=limit,
            negative_color=negative_color,
            positive_color=positive_color,
        )

    return _offline(draw)


def _as_html(token: str) -> str:
    """A token's text as the HTML that shows it."""
    return html.escape(str(token), quote=False)


def _array(raw: Any) -> np.ndarray:
    if hasattr(raw, "detach"):  # a torch tensor, without importing torch here
        raw = raw.detach().float().cpu().numpy()
    array = np.asarray(raw, dtype=float)
    if not np.isfinite(array).all():
        raise InputError("activations hold numbers that are not finite: nothing can be drawn from them")
    return array


def _circuitsvis(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"circuitsvis.{module}")
    except ImportError as error:
        raise InputError("this view needs CircuitsVis: pip install 'neva_tl[viz]'") from error


def _offline(draw: Callable[[Callable[[str], str]], Any]) -> Widget:
    # The text goes through a JSON encoder that we do not own, so `<` travels as a mark that no text contains (it
    # is random) and becomes the JavaScript escape afterwards.
    mark = f"neva{secrets.token_hex(12)}"
    whole = str(draw(lambda text: str(text).replace("<", mark)).local_src).replace(mark, "\\u003c")
    # CircuitsVis writes `<div .../>`, which HTML reads as an open div.
    whole = whole.replace('style="margin: 15px 0;"/>', 'style="margin: 15px 0;"></div>', 1)
    return Widget(html=f'<div class="neva-widget">{whole}</div>')
