"""Word lists in two halves: A for attribution, selection and circuits, B for judging, so that none judges its own evidence.

Whole word families go to one half. The rule (ours) is cruder than a stemmer on purpose: words that begin with the same three
letters are one family. Two words that wrongly share a family only share a half, while a family that is torn apart would
let the evidence of selection into the judge.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from neva_tl.core.errors import InputError

Half = Literal["A", "B"]
HALVES = ("A", "B")
#: Put before the stem when it is hashed; of the numbers up to 5000 the one that cuts the ten lists most evenly.
_SALT = "1561"
_LETTERS = 3

#: Forms whose beginning does not show their family.
_RELATED = {
    "won": "win",
    "led": "lead",
    "kept": "keep",
    "thought": "think",
    "unkind": "kind",
    "unfair": "fair",
    "unfairness": "fair",
    "unfairly": "fair",
    "unjust": "just",
    "unjustly": "just",
    "injustice": "just",
    "unequal": "equal",
    "inequality": "equal",
    "intolerance": "tolerance",
    "intolerant": "tolerance",
    "impolite": "polite",
    "improper": "proper",
    "disobey": "obey",
    "unsafe": "safe",
    "insecure": "secure",
    "dishonest": "honest",
    "disloyal": "loyal",
    "unselfish": "selfless",
    "unconventional": "convention",
    "inherit": "heritage",
    "inherited": "heritage",
    "inheritance": "heritage",
    "heirloom": "heritage",
    "overrule": "rule",
    "biodiversity": "diversity",
    "outperform": "perform",
    "unexpected": "expect",
    "unpredictable": "predict",
    "outrank": "rank",
    "precaution": "caution",
    "precautions": "caution",
}


def stem(word: str) -> str:
    """The key of a word's family: its first three letters, or those of the word it is formed from."""
    word = word.lower()
    return _RELATED.get(word, word)[:_LETTERS]


def half_of(word: str, salt: str = _SALT) -> str:
    """The half ("A" or "B") that a word's family belongs to, by sha256 of its stem; the same for every value."""
    return HALVES[hashlib.sha256(f"{salt} {stem(word)}".encode()).digest()[0] % 2]


def take(words: tuple[str, ...], half: str | None) -> tuple[str, ...]:
    """The words of one half, or all of them.

    Raises:
        InputError: a half other than "A" and "B".
    """
    if half is None:
        return words
    if half not in HALVES:
        raise InputError(f"unknown half {half!r}: 'A', 'B', or None for all words")
    return tuple(word for word in words if half_of(word) == half)
