"""Halves of the word lists: whole families on one side."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.prompts import wordlists

# Families as a dictionary has them, written without a look at the rule.
FAMILIES = [
    "help helps helped helping helper helpful helpfully helpless",
    "kind kindly kindness unkind",
    "generous generously generosity",
    "obey obeys obeyed obeying",
    "polite politely politeness impolite",
    "create creates created creating creative creativity",
    "safe safer safely safety",
    "free freely freedom",
    "forgive forgives forgave forgiving forgiveness",
    "enjoy enjoys enjoyed enjoying enjoyment enjoyable",
    "success successes successful successfully",
    "win wins winning winner won",
    "control controls controlled controlling controller",
    "secure secures secured securely security",
    "tradition traditions traditional traditionally",
    "thrill thrills thrilled thrilling",
    "achieve achieves achieved achievement achiever",
    "justice just unjust justly",
    "share shares shared sharing",
    "decide decides decided deciding",
    "independent independently independence",
    "ancestor ancestors ancestral",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_share_a_stem(family: str) -> None:
    stems = {word: wordlists.stem(word) for word in family.split()}
    assert len(set(stems.values())) == 1, stems


def test_unrelated_words_do_not_all_share_one() -> None:
    assert len({wordlists.stem(family.split()[0]) for family in FAMILIES}) == len(FAMILIES)


@settings(max_examples=50, deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=14))
def test_stem_of_any_word(word: str) -> None:
    stem = wordlists.stem(word)
    assert 1 <= len(stem) <= 3 and wordlists.half_of(word.upper()) == wordlists.half_of(word)


@pytest.mark.parametrize("value", VALUES)
def test_halves_partition_the_list(value: str) -> None:
    everything, a, b = (prompts.words(value, half) for half in (None, "A", "B"))
    assert 40 <= len(everything) <= 80 and len(set(everything)) == len(everything)
    assert sorted(a + b) == sorted(everything)
    assert min(len(a), len(b)) >= len(everything) / 3
    assert all(word == word.lower() and word.isalpha() for word in everything)


def test_no_stem_is_in_both_halves_of_any_values() -> None:
    stems = {half: {wordlists.stem(w) for v in VALUES for w in prompts.words(v, half)} for half in ("A", "B")}
    assert not stems["A"] & stems["B"]


def test_a_plainer_measure_finds_no_torn_family() -> None:
    """Words of one value that begin alike (six letters) must be in one half, whatever the stemmer thinks."""
    for value in VALUES:
        a, b = ({word[:6] for word in prompts.words(value, half) if len(word) >= 6} for half in ("A", "B"))
        assert not a & b


def test_errors() -> None:
    with pytest.raises(InputError, match="unknown value"):
        prompts.words("kindness")
    with pytest.raises(InputError, match="unknown half"):
        prompts.words("power", "C")
