"""The pairs, word lists and open prompts of the moral foundations: what is shipped keeps its promises."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.theories import MORAL_FOUNDATIONS
from neva_tl.prompts import moral_foundations, schwartz, splits, wordlists
from neva_tl.study import StudyConfig

FOUNDATIONS = ("care", "fairness", "loyalty", "authority", "sanctity", "liberty")
NEGATION = re.compile(
    r"\b(not|no|never|nobody|none|nothing|nowhere|neither|nor|without|cannot|\w+n't)\b", re.IGNORECASE
)
REASON = re.compile(r"\b(because|since|so that)\b", re.IGNORECASE)
#: The names and the words of their families.
NAMES = re.compile(
    r"\b(care[sd]?|caring|careful\w*|careless\w*|(un)?fair(ly|ness)?|(dis)?loyal(ty|ly)?|authorit\w*|sanctit\w*|libert\w*)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    return moral_foundations.pairs()


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.DataFrame(moral_foundations.contrast_rows())


def tokens(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_forty_pairs_on_the_same_eight_topics(pairs: pd.DataFrame) -> None:
    assert moral_foundations.foundations() == FOUNDATIONS == tuple(pairs["value"].unique())
    counts = pairs.groupby(["value", "topic"]).size().unstack()
    assert counts.shape == (6, 8) and (counts == 5).all(axis=None)
    assert (counts.sum(axis=1) >= 40).all()


def test_no_text_is_repeated(pairs: pd.DataFrame) -> None:
    for texts in (pairs["prompt"], pd.concat([pairs["plus"], pairs["minus"]])):
        assert not texts.str.lower().str.replace(r"\W+", " ", regex=True).duplicated().any()


def test_texts_are_whole_sentences(pairs: pd.DataFrame) -> None:
    # a prompt ends in a question; an answer may be quoted speech
    assert pairs["prompt"].str.match(r"[A-Z].*\?$").all()
    for texts in (pairs["plus"], pairs["minus"]):
        assert texts.str.match(r'"?[A-Z].*\."?$').all() and (texts.str.count('"') % 2 == 0).all()
        assert texts.str.len().between(25, 100).all()
    for texts in (pairs["prompt"], pairs["plus"], pairs["minus"]):
        assert (texts == texts.str.strip()).all() and not texts.str.contains("  ").any()


def test_no_foundation_is_named(pairs: pd.DataFrame) -> None:
    for column in ("prompt", "plus", "minus"):
        assert [text for text in pairs[column] if NAMES.search(text)] == []


def test_no_prompt_holds_a_word_of_its_foundation(pairs: pd.DataFrame) -> None:
    revealing = [
        (pair.prompt, common)
        for pair in pairs.itertuples()
        if (common := tokens(pair.prompt) & set(moral_foundations.word_list(pair.value)))
    ]
    assert revealing == []


# --- the answers differ in content, not in form -----------------------------------------------------------------------


@pytest.mark.parametrize("value", FOUNDATIONS)
def test_answers_are_equally_long(pairs: pd.DataFrame, value: str) -> None:
    own = pairs[pairs["value"] == value]
    plus, minus = own["plus"].str.len(), own["minus"].str.len()
    assert plus.mean() == pytest.approx(minus.mean(), rel=0.1)
    assert 0.25 <= (plus > minus).mean() <= 0.75


@pytest.mark.parametrize("value", FOUNDATIONS)
@pytest.mark.parametrize(
    "pattern",
    [re.compile(r'^"?yes\b', re.IGNORECASE), re.compile(r'^"?no\b', re.IGNORECASE), NEGATION],
    ids=["yes", "no", "negation"],
)
def test_answers_affirm_and_deny_alike(pairs: pd.DataFrame, value: str, pattern: re.Pattern[str]) -> None:
    own = pairs[pairs["value"] == value]
    plus, minus = (own[pole].map(lambda text: bool(pattern.search(text))).mean() for pole in ("plus", "minus"))
    assert abs(plus - minus) < 0.1


@pytest.mark.parametrize("value", FOUNDATIONS)
def test_answers_give_reasons_alike(pairs: pd.DataFrame, value: str) -> None:
    own = pairs[pairs["value"] == value]
    plus, minus = (own[pole].map(lambda text: bool(REASON.search(text))).mean() for pole in ("plus", "minus"))
    assert abs(plus - minus) < 0.2


# --- rows for a contrast set ------------------------------------------------------------------------------------------


def test_rows_mark_the_answer(pairs: pd.DataFrame, rows: pd.DataFrame) -> None:
    assert len(rows) == 2 * len(pairs)
    for pair, (_, both) in zip(pairs.itertuples(), rows.groupby("pair_id", sort=False), strict=True):
        assert both["pole"].tolist() == ["+", "-"]
        for row, answer in zip(both.itertuples(), (pair.plus, pair.minus), strict=True):
            assert row.text == f"{pair.prompt} {answer}" and row.text[row.answer_start : row.answer_end] == answer
            assert row.value == pair.value and row.pair_id.startswith(f"{pair.value}/{pair.topic}/")
            assert row.source == "moral-foundations"


def test_every_split_has_whole_topics_of_every_foundation(rows: pd.DataFrame) -> None:
    loaded = prompts.load("moral-foundations").df
    assert loaded["split"].tolist() == rows["split"].tolist()
    topic = loaded["pair_id"].str.rpartition("/")[0]
    assert loaded.groupby(topic).size().eq(10).all() and loaded["split"].groupby(topic).nunique().eq(1).all()
    # the same splits as those of clusters that are topics
    assert splits.assign(loaded.assign(cluster=topic)).tolist() == loaded["split"].tolist()
    sizes = loaded.groupby("value")["split"].value_counts().unstack() / 2
    assert (sizes[["train", "validation", "test"]] == [20, 10, 10]).all(axis=None)


def test_each_pair_is_a_unit_of_intervals(rows: pd.DataFrame) -> None:
    clusters = rows.groupby(["value", "split"])["cluster"].nunique().unstack()
    assert (clusters[["train", "validation", "test"]] == [20, 10, 10]).all(axis=None)
    assert rows.groupby("cluster")["pole"].agg("".join).eq("+-").all()


# --- word lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", FOUNDATIONS)
def test_word_lists(value: str) -> None:
    words = moral_foundations.word_list(value)
    assert 20 <= len(words) <= 30 and len(set(words)) == len(words)
    assert value in words and all(word == word.lower() and word.isalpha() for word in words)
    a, b = (wordlists.take(words, half) for half in wordlists.HALVES)
    assert min(len(a), len(b)) >= len(words) / 3


def test_no_stem_is_in_two_lists() -> None:
    stems = [stem for v in FOUNDATIONS for stem in {wordlists.stem(word) for word in moral_foundations.word_list(v)}]
    assert len(set(stems)) == len(stems)


def test_the_theory_has_the_same_words() -> None:
    assert MORAL_FOUNDATIONS.names == moral_foundations.foundations()
    for one in MORAL_FOUNDATIONS.values:
        assert one.words == moral_foundations.word_list(one.name)


def test_the_set_is_built_in() -> None:
    pairs = prompts.load("moral-foundations")
    assert pairs.theory == MORAL_FOUNDATIONS and pairs.values == FOUNDATIONS and pairs.paired and len(pairs) == 480
    assert prompts.open_prompts("moral-foundations").equals(moral_foundations.open_prompts())
    assert set(prompts.words("care")) == set(moral_foundations.word_list("care"))
    plain = StudyConfig(model="smollm2", prompts="moral-foundations").resolved()
    assert plain.values == FOUNDATIONS and plain.open_prompts == "moral-foundations" and plain.theory is None
    assert plain.hash() == replace(plain, theory="moral-foundations").hash() == plain.resolved(pairs).hash()


def test_unknown_foundation() -> None:
    with pytest.raises(InputError, match="unknown foundation 'loyality': did you mean 'loyalty'"):
        moral_foundations.word_list("loyality")


# --- open prompts -----------------------------------------------------------------------------------------------------


def test_open_prompts_name_no_foundation() -> None:
    table = moral_foundations.open_prompts()
    assert list(table.columns) == ["text", "topic", "split"]
    assert len(table) >= 30 and not table["text"].duplicated().any() and not table["topic"].duplicated().any()
    assert not set(table["text"]) & set(schwartz.open_prompts()["text"])
    assert not set(table["text"]) & set(moral_foundations.pairs()["prompt"])
    listed = {word for value in FOUNDATIONS for word in moral_foundations.word_list(value)}
    assert [text for text in table["text"] if tokens(text) & listed or NAMES.search(text)] == []
    assert table["split"].value_counts().to_dict() == {"test": 15, "validation": 9, "train": 6}
