"""Contrastive prompts: the validated table, the built-in sets, readers of public formats, questions and word lists."""

from __future__ import annotations

from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.example import Example
from neva_tl.prompts.questions import load_questions, open_prompts, words
from neva_tl.prompts.registry import load

__all__ = ["ContrastSet", "Example", "load", "load_questions", "open_prompts", "words"]
