"""The demo world's words: twenty pools of value words, the neutral words, and every split by sha256.

Ten *own* pools (one per value) and ten *border* pools (one per gap of the circle, shared by the two neighbours). A pool holds
verbs (base form and gerund), adjectives, nouns and goods (the abstract nouns of reasons). All data are in `lexicon.json`.

How much vocabulary neighbours share is a property of the process: `NEVA_DEMO_BORDER_RATE`, read once, here (see
`BORDER_RATE`). Unset, it is the frozen world of the shipped model.
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
from neva_tl.core.values import N_VALUES, VALUES, value

LEXICON_FILE = Path(__file__).with_name("lexicon.json")
SPLITS: tuple[str, ...] = ("train", "validation", "test")
#: Shares of train, validation and test wherever something is hash-ranked.
SHARES = (0.5, 0.2, 0.3)
#: Number of pools: ten own, then ten borders (pool 10+g lies between value g and value g+1 on the circle).
N_POOLS = 2 * N_VALUES
#: The environment variable that names another world, and the rate of the frozen one.
BORDER_RATE_VARIABLE = "NEVA_DEMO_BORDER_RATE"
FROZEN_BORDER_RATE = 0.08


def border_rate_of(text: str | None) -> float:
    """The border rate that a variable's text asks for; the frozen one where it is unset or empty.

    Raises:
        InputError: no number from 0 to .5.
    """
    if not (text or "").strip():
        return FROZEN_BORDER_RATE
    try:
        rate = float(str(text))
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 0.5:
        raise InputError(f"{BORDER_RATE_VARIABLE}={text} is no share of words: set a number from 0 to 0.5, or unset it")
    return rate


#: Probability that a value clause takes its words from one given border pool (a value has two borders). At 0 nothing is
#: shared; at .5 no value has a word of its own: each word belongs to two neighbours, and only both borders together tell
#: a value from them.
BORDER_RATE = border_rate_of(os.environ.get(BORDER_RATE_VARIABLE))
#: Value words that are also a frame's own words ("one spare hour"): not counted as words of the value.
AMBIGUOUS = frozenset({"spare"})
#: Marks end or join clauses; the noise channel neither changes nor makes them.
MARKS = frozenset({".", ",", ":", "?"})


def sha(text: str) -> str:
    """Return the sha256 of a string in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def rank_split(names: Sequence[str], salt: str) -> dict[str, str]:
    """Split names into train, validation and test by the rank of their hash, so that the shares are exact to rounding."""
    ranked = sorted(names, key=lambda name: sha(f"{salt}|{name}"))
    first = round(SHARES[0] * len(ranked))
    second = round((SHARES[0] + SHARES[1]) * len(ranked))
    return {name: "train" if i < first else "validation" if i < second else "test" for i, name in enumerate(ranked)}


def check_split(split: str | None) -> None:
    """Raise InputError unless `split` is a split's name or None (all of the world)."""
    if split is not None and split not in SPLITS:
        raise InputError(f"unknown split {split!r}: use one of {', '.join(SPLITS)}")


@dataclass(frozen=True)
class Pool:
    """Value words of one source: verbs as (base, gerund) pairs, adjectives, nouns and goods."""

    name: str
    verbs: tuple[tuple[str, str], ...]
    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    goods: tuple[str, ...]

    def of(self, kind: str) -> tuple[str, ...]:
        """Words that fill a slot of this kind: GV (gerund), IV (base verb), A (adjective), B (noun) or Z (good)."""
        return {
            "GV": tuple(gerund for _, gerund in self.verbs),
            "IV": tuple(base for base, _ in self.verbs),
            "A": self.adjectives,
            "B": self.nouns,
            "Z": self.goods,
        }[kind]

    @property
    def stems(self) -> tuple[tuple[str, ...], ...]:
        """Words grouped by stem: a verb's two forms belong together."""
        return self.verbs + tuple((w,) for w in (*self.adjectives, *self.nouns, *self.goods))


@cache
def data() -> dict[str, Any]:
    """The lexicon file as it is."""
    loaded: dict[str, Any] = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))
    return loaded


def _pool(name: str, raw: dict[str, Any]) -> Pool:
    verbs = tuple((base, gerund) for base, gerund in raw["verbs"])
    return Pool(name, verbs, tuple(raw["adjectives"]), tuple(raw["nouns"]), tuple(raw["goods"]))


@cache
def pools() -> tuple[Pool, ...]:
    """The twenty pools: own pools in circle order, then the borders."""
    own = [_pool(name, data()["values"][name]) for name in VALUES]
    borders = [_pool(f"{VALUES[g]}/{VALUES[(g + 1) % N_VALUES]}", raw) for g, raw in enumerate(data()["borders"])]
    return tuple(own + borders)


def own_words() -> bool:
    """Whether values have words of their own in this world (at a border rate of .5 they have none)."""
    return BORDER_RATE < 0.5


@cache
def mixture() -> np.ndarray:
    """[10, 20] probability that a clause about value j takes its words from pool m."""
    weights = np.zeros((N_VALUES, N_POOLS))
    for j in range(N_VALUES):
        weights[j, j] = 1 - 2 * BORDER_RATE
        weights[j, N_VALUES + j] = BORDER_RATE
        weights[j, N_VALUES + (j - 1) % N_VALUES] = BORDER_RATE
    return weights


@cache
def people_split() -> dict[str, str]:
    """Person -> split; women and men are ranked apart."""
    return rank_split(data()["women"], "women") | rank_split(data()["men"], "men")


@cache
def places_split() -> dict[str, str]:
    """Place -> split."""
    return rank_split(data()["places"], "places")


@cache
def people(split: str | None = None) -> tuple[str, ...]:
    """The people of a split (None: all)."""
    check_split(split)
    return tuple(sorted(p for p, s in people_split().items() if split in (None, s)))


@cache
def places(split: str | None = None) -> tuple[str, ...]:
    """The places of a split (None: all)."""
    check_split(split)
    return tuple(sorted(p for p, s in places_split().items() if split in (None, s)))


@cache
def simple_slots(split: str | None = None) -> dict[str, tuple[str, ...]]:
    """Slot kind -> its words (uniform), for slots that carry no value; only people and places depend on the split."""
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
    """Words of one value alone (its own pool, less words that neutral frames use too), split by stem into halves.

    In a world whose values have no words of their own: the words of its two borders, each shared with one neighbour.

    Args:
        name: a value.
        half: "A" (attribution, selection), "B" (judging) or None for all. Stems are ranked by sha256 and dealt in turn,
            pool by pool, so that a shared word is in the same half for both its values.

    Raises:
        InputError: unknown value or half.
    """
    index = value(name).index
    if half not in (None, "A", "B"):
        raise InputError(f"unknown half {half!r} of the words: use 'A' (attribution) or 'B' (judging)")
    sources = (index,) if own_words() else (N_VALUES + index, N_VALUES + (index - 1) % N_VALUES)
    kept: list[tuple[str, ...]] = []
    for pool in (pools()[source] for source in sources):
        stems = sorted(pool.stems, key=lambda stem: sha(f"half|{pool.name}|{stem[0]}"))
        kept += stems if half is None else stems[0 if half == "A" else 1 :: 2]
    return tuple(sorted(word for stem in kept for word in stem if word not in AMBIGUOUS))
