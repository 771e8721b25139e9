"""The questions that models answer to write contrasts: enough, distinct, and free of the words of any built-in theory."""

from __future__ import annotations

import re

import pytest

from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.theories import THEORIES
from neva_tl.prompts.questions import KINDS


def test_there_are_enough_of_each_kind_and_none_twice() -> None:
    table = prompts.open_questions()
    assert len(table) >= 120 and list(table.columns) == ["text", "topic", "kind", "split"]
    assert not table["text"].str.lower().duplicated().any() and not table["topic"].duplicated().any()
    counts = table["kind"].value_counts()
    assert set(counts.index) == set(KINDS) and counts.min() >= 12 and counts["dilemma"] >= 50
    assert table["text"].str.fullmatch(r"[A-Z][\x20-\x7e]*[.?]").all()


def test_splits_are_shares_of_the_topics() -> None:
    table = prompts.open_questions()
    shares = table["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.5, abs=0.02) and shares["test"] == pytest.approx(0.3, abs=0.02)
    parts = [prompts.open_questions(split) for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(table) and not set(parts[0]["text"]) & set(parts[2]["text"])
    # every split has dilemmas and everyday questions
    assert all({"dilemma", "everyday"} <= set(part["kind"]) for part in parts)
    with pytest.raises(InputError, match="unknown split"):
        prompts.open_questions("dev")


def test_no_question_names_a_value_of_a_theory() -> None:
    words = {
        word.lower()
        for theory in THEORIES.values()
        for one in theory.names
        for word in prompts.words(one, theory=theory)
    }
    words |= {part for theory in THEORIES.values() for one in theory.names for part in (one, *one.split("-"))}
    assert len(words) > 800
    for text in prompts.open_questions()["text"]:
        tokens = re.findall(r"[a-z-]+", text.lower())
        assert not words & {part for token in tokens for part in (token, *token.split("-"))}, text


def test_they_are_none_of_the_prompts_that_measure() -> None:
    measuring = {*prompts.open_prompts()["text"], *prompts.open_prompts("moral-foundations")["text"]}
    measuring |= {*prompts.load_questions()["text"]}
    assert not measuring & set(prompts.open_questions()["text"])
