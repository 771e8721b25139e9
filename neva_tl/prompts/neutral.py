"""Value-free passages, and the training texts of a relevance gate."""

from __future__ import annotations

import json
from importlib import resources

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.example import Example
from neva_tl.prompts.registry import load


@check_arguments
def neutral_texts(split: str | None = None) -> tuple[str, ...]:
    """Return neva_tl's own short passages in plain English, which state facts and no values.

    Args:
        split: `validation` or `test`; None returns both.

    Raises:
        InputError: Unknown split.

    Example:
        >>> texts = nv.prompts.neutral_texts("test")
        >>> texts[0].split(",")[0]
        'Where a river meets a lake or the sea'
    """
    file = resources.files("neva_tl.prompts") / "data" / "neutral.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    texts = tuple(row["text"] for row in rows if split is None or row["split"] == split)
    if not texts:
        raise InputError(f"unknown split {split!r} of the neutral texts: validation or test")
    return texts


@check_arguments
def gate_texts(spec: str | ContrastSet) -> tuple[list[Example], list[str]]:
    """Return the training texts of `fit_relevance`.

    Args:
        spec: See `load`.

    Returns:
        (relevant, neutral). Relevant texts are the set's training texts of both poles and all values, in the demo world also
        sentence beginnings that precede value words. Neutral texts are the demo world's value-free training texts,
        otherwise our validation passages (the test passages measure the cost of an edit).

    Example:
        >>> relevant, neutral = nv.prompts.gate_texts(pairs)
        >>> gate = nv.fit_relevance(model, relevant, neutral, most=300)
    """
    pairs = load(spec)
    relevant = pairs.split("train").examples()
    if pairs.name != "demo":
        return relevant, list(neutral_texts("validation"))
    from neva_tl import demo

    relevant += [Example("", text) for text in demo.value_beginnings("train")]
    return relevant, demo.neutral_texts("train", 600)
