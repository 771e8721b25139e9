"""The demo's judge: the posterior of the generator that made the demo model's language.

Exact up to the stated noise channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class ExactJudge:
    """P(value bit = 1 | text) under the demo's generator; a text that the generator could not have made scores 0
    and is counted.

    A text is read with its prompt, as the generator's texts are one piece.
    """

    @property
    def name(self) -> str:
        """Shown in tables."""
        return "exact"

    @property
    def unit(self) -> str:
        """A probability: a gain of .2 is 20 percentage points more texts that express the value."""
        return "P(expresses)"

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """Posterior that each value is expressed; 0 where the text is invalid."""
        express, _, valid = self._posteriors(texts, prompts)
        return np.where(valid[:, None], express, 0.0)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n 10"]:
        """Posterior that each value is opposed; 0 where the text is invalid."""
        _, oppose, valid = self._posteriors(texts, prompts)
        return np.where(valid[:, None], oppose, 0.0)

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Whether the generator could have made the text."""
        return self._posteriors(texts, prompts)[2]

    def _posteriors(
        self, texts: Sequence[str], prompts: Sequence[str] | None
    ) -> tuple[Float[np.ndarray, "n 10"], Float[np.ndarray, "n 10"], Bool[np.ndarray, " n"]]:
        from neva_tl import demo

        given = list(prompts) if prompts is not None else [""] * len(texts)
        express, oppose, valid = demo.posteriors(list(texts), given)
        return np.asarray(express, float), np.asarray(oppose, float), np.asarray(valid, bool)
