"""Word lists in two halves: A for attribution, selection and circuits, B for judging.

The judge thus never reads the words that served as evidence. All words of a family go to one half. The rule (ours) is
deliberately coarser than a stemmer: words with the same first three letters form a family. Two unrelated words in one family
only share a half, whereas a divided family would give the judge words of selection.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from neva_tl.core.errors import InputError

Half = Literal["A", "B"]
HALVES = ("A", "B")
#: Prefix of the stem in its hash: the number up to 5000 that divides the ten lists most evenly.
_SALT = "1561"
_LETTERS = 3

#: Forms whose first letters differ from those of their family.
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
    """Return the key of a word's family: its first three letters, or those of its base word.

    Args:
        word: Any word.
    """
    word = word.lower()
    return _RELATED.get(word, word)[:_LETTERS]


def half_of(word: str, salt: str = _SALT) -> str:
    """Return the half ("A" or "B") of a word's family, by sha256 of its stem; the same for every value.

    Args:
        word: Any word.
        salt: Prefix of the stem in its hash.
    """
    return HALVES[hashlib.sha256(f"{salt} {stem(word)}".encode()).digest()[0] % 2]


def take(words: tuple[str, ...], half: str | None) -> tuple[str, ...]:
    """Return the words of one half, or all words.

    Args:
        words: A word list.
        half: "A", "B", or None for all words.

    Raises:
        InputError: A half other than "A" and "B".
    """
    if half is None:
        return words
    if half not in HALVES:
        raise InputError(f"unknown half {half!r}: 'A', 'B', or None for all words")
    return tuple(word for word in words if half_of(word) == half)
