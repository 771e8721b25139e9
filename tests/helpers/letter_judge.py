"""Judges that count letters, so that any edit moves them; prompts and an edit to go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neva_tl.editing import AddVector
from neva_tl.evaluation import Decoding
from neva_tl.evaluation.judges.base import legible

PROMPTS = ["Once upon a time", "The girl said", "Tom went to the", "They saw a big", "It was very", "One day a cat"]
SHORT = Decoding(max_new_tokens=6, temperature=1.0, samples=2, seed=3)


class LetterJudge:
    """Value j's score is the share of the text's letters that are the j-th of ten common ones: moves with any edit."""

    name, unit = "letters", "share"
    letters = "etaoinshrd"

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return np.array([[t.lower().count(c) / max(len(t), 1) for c in self.letters] for t in texts])

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray | None:
        return None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return legible(texts)


class OpposingJudge(LetterJudge):
    """Also says what each text opposes."""

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return np.full((len(texts), 10), 0.1)


def push(scale: float = 1.0, **options: Any) -> AddVector:
    return AddVector({2: scale * np.random.default_rng(0).normal(0, 1, 64)}, **options)
