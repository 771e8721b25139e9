"""Transparent judge for natural English: counts words of each value's list.

It uses half B of the lists, which selection never uses. It reads words, not meaning, so it is never the headline judge outside
the demo; it is a second opinion that a reader can check by eye.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.evaluation.judges.base import legible
from neva_tl.evaluation.judges.card import judge_card, judge_line
from neva_tl.prompts.wordlists import half_of

_WORD = re.compile(r"[a-z]+(?:[-'’][a-z]+)*")
#: A list word within this many words after a negation counts as opposing, unless a stop (. ! ? ; : or "but") lies between.
_REACH = 3
_NEGATIONS = frozenset({"not", "no", "never", "without", "nor", "neither", "hardly", "cannot", "against"}) | frozenset(
    {"refuse", "refuses", "refused", "reject", "rejects", "rejected"}
)
_ENDINGS = ("ingly", "edly", "ings", "ing", "ies", "ied", "ers", "est", "ed", "es", "er", "ly", "s", "e", "y")


def _half_b() -> dict[str, tuple[str, ...]]:
    from neva_tl import prompts

    return {name: prompts.words(name, half="B") for name in SCHWARTZ.names}


def stem(word: str) -> str:
    """Remove a common English ending from a word; at least four letters remain.

    "helps", "helped" and "helping" all become "help". The rule is deliberately simple and applies to the list and to the text.

    Args:
        word: The word in lower case.
    """
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


@dataclass(frozen=True)
class WordListJudge:
    """Scores `1 - 2 ** -hits`: no word of the list 0, one .5, two .75.

    Negated words count for `oppose` instead.

    Attributes:
        lists: Value -> words. Default: half B of neva_tl's lists.
        half: Half of the word families that count. Words of the other half are ignored, so that no word is used for both
            selection and judging. None counts all words (for your own lists).

    Example:
        >>> judge = nv.evaluation.WordListJudge({"thrift": ["save", "receipt"]}, half=None)
        >>> judge.score(["I save every receipt.", "I buy it."]).tolist()
        [[0.75], [0.0]]
    """

    lists: Mapping[str, Sequence[str]] = field(default_factory=_half_b, repr=False)
    half: Literal["A", "B"] | None = "B"

    _reads = "the words of the text; the prompt is ignored"
    __repr__, _repr_html_ = judge_line, judge_card

    def _facts(self) -> dict[str, Any]:
        return {"words": sum(len(words) for words in self.lists.values()), "half": self.half or "both"}

    def _quality(self) -> str:
        return "it counts words and does not read meaning: a second opinion that a reader can check by eye"

    @classmethod
    def of_theory(cls, theory: ValueTheory) -> WordListJudge:
        """Make the judge of a theory's word lists.

        Args:
            theory: The theory; every value needs a list with words in half B.

        Raises:
            InputError: A value has no word in half B.
        """
        from neva_tl import prompts

        lists = {name: prompts.words(name, half="B", theory=theory) for name in theory.names}
        without = [name for name, words in lists.items() if not words]
        if without:
            raise InputError(
                f"the theory {theory.name} has no words to judge {without[0]} by: give it a longer word list"
            )
        return cls(lists)

    @property
    def values(self) -> tuple[str, ...]:
        """Scored values: Schwartz's ten, or those of lists for others."""
        return SCHWARTZ.names if all(name in SCHWARTZ for name in self.lists) else tuple(self.lists)

    @property
    def name(self) -> str:
        """Name in tables."""
        return "wordlist"

    @property
    def unit(self) -> str:
        """A saturating count, not a probability."""
        return "1 - 2^-words"

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Count each value's words that are not negated; 0 for invalid texts.

        Args:
            texts: The texts to score.
            prompts: Ignored: only the text is scored.
        """
        del prompts
        return self._saturated(texts, negated=False)

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Float[np.ndarray, "n v"]:
        """Count each value's negated words ("never help", "without rules").

        Args:
            texts: The texts to score.
            prompts: Ignored: only the text is scored.
        """
        del prompts
        return self._saturated(texts, negated=True)

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Bool[np.ndarray, " n"]:
        """Return which texts are legible; see `base.legible`."""
        del prompts  # only the text is checked
        return legible(texts)

    def _saturated(self, texts: Sequence[str], *, negated: bool) -> Float[np.ndarray, "n v"]:
        index: dict[str, list[int]] = {}
        for j, name in enumerate(self.values):
            for key in {stem(word.lower()) for word in self.lists.get(name, ())}:
                index.setdefault(key, []).append(j)
        hits = np.zeros((len(texts), len(self.values)))
        for row, text in enumerate(texts):
            for word, denied in _words(text):
                if denied is negated and (self.half is None or half_of(word) == self.half):
                    hits[row, index.get(stem(word), [])] += 1.0
        return np.where(legible(texts)[:, None], 1.0 - 2.0**-hits, 0.0)


def _words(text: str) -> list[tuple[str, bool]]:
    """Return the words of a text.

    Each comes with whether a negation precedes it closely in the same clause.
    """
    out: list[tuple[str, bool]] = []
    for clause in re.split(r"[.!?;:]|\bbut\b", text.lower()):
        since = _REACH + 1
        for word in _WORD.findall(clause):
            since += 1
            out.append((word, since <= _REACH))
            if word in _NEGATIONS or word.endswith(("n't", "n’t")):
                since = 0
    return out
