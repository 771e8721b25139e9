"""Words of the demo world: twenty pools of value words, neutral words, and all splits by sha256.

Ten *own* pools (one per value) and ten *border* pools (one per gap of the circle, shared by the two neighbours). A pool has
verbs (base form and gerund), adjectives, nouns and goods (the abstract nouns of reasons). All data are in `lexicon.json`.

The share of vocabulary that neighbours have in common is a property of the process: this module reads the environment
variable `NEVA_DEMO_BORDER_RATE` once (see `BORDER_RATE`). By default it is the frozen world of the shipped model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from neva_tl.core.errors import InputError
from neva_tl.core.theories.schwartz import SCHWARTZ

LEXICON_FILE = Path(__file__).with_name("lexicon.json")
SPLITS: tuple[str, ...] = ("train", "validation", "test")
#: Shares of train, validation and test in every hash ranking.
SHARES = (0.5, 0.2, 0.3)
#: Number of pools: ten own, then ten borders (pool 10+g lies between value g and value g+1 on the circle).
N_POOLS = 2 * len(SCHWARTZ)
#: Environment variable that selects another world, and the border rate of the frozen world.
BORDER_RATE_VARIABLE = "NEVA_DEMO_BORDER_RATE"
FROZEN_BORDER_RATE = 0.08


def border_rate_of(text: str | None) -> float:
    """Parse a border rate.

    Args:
        text: Value of the environment variable; None or blank gives the frozen world's rate.

    Raises:
        InputError: The text is not a number from 0 to .5.
    """
    if not (text or "").strip():
        return FROZEN_BORDER_RATE
    try:
        rate = float(str(text))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 0.5:
        raise InputError(
            f"{BORDER_RATE_VARIABLE}={text} is not a share of words: set a number from 0 to 0.5, or unset it"
        )
    return rate


#: Probability that a value clause takes its words from a given border pool (a value has two borders). At 0 values share no
#: words; at .5 no value has words of its own: each word belongs to two neighbours, and only both borders together identify
#: a value.
BORDER_RATE = border_rate_of(os.environ.get(BORDER_RATE_VARIABLE))
#: Value words that frames also use ("one spare hour"); they do not count as words of the value.
AMBIGUOUS = frozenset({"spare"})
#: Punctuation marks; the noise channel neither changes nor inserts them.
MARKS = frozenset({".", ",", ":", "?"})


def sha(text: str) -> str:
    """Compute the sha256 of a string as hexadecimal digits.

    Args:
        text: Any string.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def rank_split(names: Sequence[str], salt: str) -> dict[str, str]:
    """Split names into train, validation and test by hash rank; the shares are exact up to rounding.

    Args:
        names: Distinct names.
        salt: Prefix of the names in their hash.

    Returns:
        Name -> split.
    """
    ranked = sorted(names, key=lambda name: sha(f"{salt}|{name}"))
    first = round(SHARES[0] * len(ranked))
    second = round((SHARES[0] + SHARES[1]) * len(ranked))
    return {name: "train" if i < first else "validation" if i < second else "test" for i, name in enumerate(ranked)}


def check_split(split: str | None) -> None:
    """Check the name of a split.

    Args:
        split: Name of a split, or None for the full world.

    Raises:
        InputError: Unknown split.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class Pool:
    """Value words of one source.

    Attributes:
        name: A value, or `value/value` for a border.
        verbs: (base form, gerund) pairs.
        adjectives: Adjectives of a clause.
        nouns: Nouns of a clause.
        goods: Abstract nouns of reasons.
    """

    name: str
    verbs: tuple[tuple[str, str], ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    goods: tuple[str, ...]

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the words that fill a slot.

        Args:
            kind: GV (gerund), IV (base verb), A (adjective), B (noun) or Z (good).
        """
        return {
            "GV": tuple(gerund for _, gerund in self.verbs),
            "IV": tuple(base for base, _ in self.verbs),
            "A": self.adjectives,
            "B": self.nouns,
            "Z": self.goods,
        }[kind]

    @property
    def stems(self) -> tuple[tuple[str, ...], ...]:
        """Words grouped by stem: the two forms of a verb form a group."""
        return self.verbs + tuple((w,) for w in (*self.adjectives, *self.nouns, *self.goods))


@cache
def data() -> dict[str, Any]:
    """Read the lexicon file."""
    loaded: dict[str, Any] = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))
    return loaded


def _pool(name: str, raw: dict[str, Any]) -> Pool:
    verbs = tuple((base, gerund) for base, gerund in raw["verbs"])
    return Pool(name, verbs, tuple(raw["adjectives"]), tuple(raw["nouns"]), tuple(raw["goods"]))


@cache
def pools() -> tuple[Pool, ...]:
    """Return the twenty pools: own pools in circle order, then the borders."""
    own_pools = [_pool(name, data()["values"][name]) for name in SCHWARTZ.names]
    following = (*SCHWARTZ.names[1:], SCHWARTZ.names[0])
    border_names = [f"{a}/{b}" for a, b in zip(SCHWARTZ.names, following, strict=True)]
    borders = [_pool(name, raw) for name, raw in zip(border_names, data()["borders"], strict=True)]
    return tuple(own_pools + borders)


def own_words() -> bool:
    """Test whether values have words of their own in this world (at a border rate of .5 they do not)."""
    return BORDER_RATE < 0.5


@cache
def mixture() -> np.ndarray:
    """Return the probability [10, 20] that a clause about value j takes its words from pool m."""
    weights = np.zeros((len(SCHWARTZ), N_POOLS))
    for j in range(len(SCHWARTZ)):
        weights[j, j] = 1 - 2 * BORDER_RATE
        weights[j, len(SCHWARTZ) + j] = BORDER_RATE
        weights[j, len(SCHWARTZ) + (j - 1) % len(SCHWARTZ)] = BORDER_RATE
    return weights


@cache
def people_split() -> dict[str, str]:
    """Assign a split to each person, ranking women and men separately."""
    return rank_split(data()["women"], "women") | rank_split(data()["men"], "men")


@cache
def places_split() -> dict[str, str]:
    """Assign a split to each place."""
    return rank_split(data()["places"], "places")


@cache
def people(split: str | None = None) -> tuple[str, ...]:
    """Return the names of the people of a split.

    Args:
        split: Name of a split; None returns all.
    """
    check_split(split)
    return tuple(sorted(p for p, s in people_split().items() if split in (None, s)))


@cache
def places(split: str | None = None) -> tuple[str, ...]:
    """Return the places of a split.

    Args:
        split: Name of a split; None returns all.
    """
    check_split(split)
    return tuple(sorted(p for p, s in places_split().items() if split in (None, s)))


@cache
def simple_slots(split: str | None = None) -> dict[str, tuple[str, ...]]:
    """Map the kinds of value-free slots to their words, which are uniformly likely.

    Args:
        split: Split that restricts people and places; None is the full world.
    """
    raw = data()
    return {
        "N": people(split),
        "P": places(split),
        "T": tuple(raw["times"]),
        "D": tuple(raw["days"]),
        "C": tuple(raw["colours"]),
        "O": tuple(raw["objects"]),
        "Q": tuple(raw["numbers"]),
        "W": tuple(raw["towns"]),
        "S": tuple(raw["stuff"]),
        "E": tuple(raw["determiners"]),
        "XV": tuple(gerund for _, gerund in raw["chores"]),
        "YV": tuple(base for base, _ in raw["chores"]),
    }


@cache
def words(name: str, half: str | None = None) -> tuple[str, ...]:
    """Return the words of one value's own pool, without words that neutral frames also use.

    In a world whose values have no words of their own, these are the words of the value's two borders, each shared with one
    neighbour.

    Args:
        name: Name of a value.
        half: "A" (attribution, selection), "B" (judging) or None for all. Stems ranked by sha256 alternate between the
            halves, pool by pool, so that a shared word is in the same half for both values.

    Raises:
        InputError: Unknown value or half.

    Example:
        >>> nv.demo.words("power")[:3]
        ('army', 'authority', 'bank')
    """
    index = SCHWARTZ.index(name)
    if half not in (None, "A", "B"):
        raise InputError(f"unknown half {half!r} of the words: use 'A' (attribution) or 'B' (judging)")
    sources = (index,) if own_words() else (len(SCHWARTZ) + index, len(SCHWARTZ) + (index - 1) % len(SCHWARTZ))
    selected_stems: list[tuple[str, ...]] = []
    for pool in (pools()[source] for source in sources):
        stems = sorted(pool.stems, key=lambda stem: sha(f"half|{pool.name}|{stem[0]}"))
        selected_stems += stems if half is None else stems[0 if half == "A" else 1 :: 2]
    return tuple(sorted(word for stem in selected_stems for word in stem if word not in AMBIGUOUS))
