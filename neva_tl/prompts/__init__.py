"""Contrastive prompts: the validated table, the built-in sets, readers of public formats, questions and word lists."""

from __future__ import annotations

from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.example import Example
from neva_tl.prompts.neutral import gate_texts, neutral_texts
from neva_tl.prompts.own_words import from_model
from neva_tl.prompts.questions import load_questions, open_prompts, open_questions, words
from neva_tl.prompts.registry import load

__all__ = [
    "ContrastSet",
    "Example",
    "from_model",
    "gate_texts",
    "load",
    "load_questions",
    "neutral_texts",
    "open_prompts",
    "open_questions",
    "words",
]
