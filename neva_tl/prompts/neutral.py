"""Text without value: our own short passages, and the texts a relevance gate is fitted on."""

from __future__ import annotations

import json
from importlib import resources

from neva_tl.core.errors import InputError
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.example import Example
from neva_tl.prompts.registry import load


def neutral_texts(split: str | None = None) -> tuple[str, ...]:
    """neva_tl's own short passages in plain English that state facts and no values, split into validation and test.

    Raises:
        InputError: no such split.
    """
    file = resources.files("neva_tl.prompts") / "data" / "neutral.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    found = tuple(row["text"] for row in rows if split is None or row["split"] == split)
    if not found:
        raise InputError(f"unknown split {split!r} of the neutral texts: validation or test")
    return found


def gate_texts(spec: str | ContrastSet) -> tuple[list[Example], list[str]]:
    """What `fit_relevance` takes: `(relevant, neutral)`.

    Relevant are the set's training texts of both poles and all values (for the demo world also bare beginnings after which a
    value's words come next); neutral are the demo world's value-free training texts, elsewhere our validation passages (the
    test ones measure what an edit costs).

    Args:
        spec: what `load` takes.
    """
    pairs = load(spec)
    relevant = pairs.split("train").examples()
    if pairs.name != "demo":
        return relevant, list(neutral_texts("validation"))
    from neva_tl import demo

    relevant += [Example("", text) for text in demo.value_beginnings("train")]
    return relevant, demo.neutral_texts("train", 600)
