"""The demo's judge: the posterior under the generator of the demo's texts.

Exact up to the stated noise channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.evaluation.judges.card import judge_card, judge_line


@dataclass(frozen=True)
class ExactJudge:
    """P(value bit = 1 | text) under the demo's generator.

    A text that the generator cannot produce scores 0 and counts as invalid. A text is scored with its prompt, because the
    generator produces both as one text.

    Example:
        >>> judge = nv.evaluation.ExactJudge()
        >>> scores = judge.score([" where goodness leads , nursing a lonely widow is right ."], ["mara thinks that"])
        >>> nv.theories.SCHWARTZ.names[scores[0].argmax()]
        'benevolence'
    """

    _reads = "the text together with its prompt"
    __repr__, _repr_html_ = judge_line, judge_card

    def _quality(self) -> str:
        return "exact up to the stated noise channel: the generator of the demo's texts is known"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "exact"

    @property
    def unit(self) -> str:
        """A probability: a gain of .2 is 20 percentage points more expressing texts."""
        return "P(expresses)"

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return the posterior that each value is expressed; 0 for invalid texts.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.
        """
        express, _, valid = self._posteriors(texts, prompts)
        return np.where(valid[:, None], express, 0.0)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Return the posterior that each value is opposed; 0 for invalid texts.

        Args:
            texts: The texts to score.
            prompts: The prompt of each text.
        """
        _, oppose, valid = self._posteriors(texts, prompts)
        return np.where(valid[:, None], oppose, 0.0)

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts the generator can produce."""
        return self._posteriors(texts, prompts)[2]

    def _posteriors(
        self, texts: Sequence[str], prompts: Sequence[str] | None
    ) -> tuple[Float[np.ndarray, "n v"], Float[np.ndarray, "n v"], Bool[np.ndarray, " n"]]:
        from neva_tl import demo

        contexts = list(prompts) if prompts is not None else [""] * len(texts)
        express, oppose, valid = demo.posteriors(list(texts), contexts)
        return np.asarray(express, float), np.asarray(oppose, float), np.asarray(valid, bool)
