"""A judge behind a cache says what it says without one, and is asked no more than needed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from helpers.faulty_server import FaultyServer
from neva_tl.core.cache import JsonCache
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.conditions.observe import score_texts
from neva_tl.evaluation.judges import CachedJudge, ChatJudge, ExactJudge, TextJudge, WordListJudge

TEXTS = [
    "They help and help.",
    "I never help anyone.",
    "He is the boss.",
    "",
    "They help and help.",
    "Other words here.",
]
LISTS = {"benevolence": ("help", "caring"), "power": ("boss",)}


@dataclass(frozen=True)
class Counting:
    """A judge that counts the texts it reads; NaN for those it is told to fail on."""

    lists: dict[str, tuple[str, ...]]
    read: list[str] = field(default_factory=list, repr=False)
    fails: set[str] = field(default_factory=set)
    fingerprint: str = "counting 1"
    name: str = "counting"
    unit: str = "unit"

    @property
    def inner(self):
        return WordListJudge(self.lists, half=None)

    def score(self, texts, prompts=None):
        self.read.extend(texts)
        found = self.inner.score(texts, prompts)
        found[[t in self.fails for t in texts]] = np.nan
        return found

    def oppose(self, texts, prompts=None):
        return self.inner.oppose(texts, prompts)

    def valid(self, texts, prompts=None):
        return self.inner.valid(texts, prompts)


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_same_scores_and_each_text_is_read_once(tmp_path, batch_size):
    judge = Counting(LISTS)
    cached = CachedJudge(judge, tmp_path / "c", batch_size=batch_size)
    assert isinstance(cached, TextJudge) and (cached.name, cached.unit) == ("counting", "unit")
    again = CachedJudge(Counting(LISTS), tmp_path / "c")
    for one in (cached, again):
        np.testing.assert_array_equal(one.score(TEXTS), judge.inner.score(TEXTS))
        np.testing.assert_array_equal(one.oppose(TEXTS), judge.inner.oppose(TEXTS))
        np.testing.assert_array_equal(one.valid(TEXTS), judge.inner.valid(TEXTS))
    assert sorted(judge.read) == sorted(set(TEXTS)) and again.judge.read == []
    cached.score(TEXTS, ["another prompt"] * len(TEXTS))
    assert len(judge.read) == 2 * len(set(TEXTS))
    assert cached.score([]).shape == (0, 10) and cached.oppose([]).shape == (0, 10)


def test_failed_readings_are_missing_and_asked_again(tmp_path):
    judge = Counting(LISTS, fails={TEXTS[2]})
    cached = CachedJudge(judge, tmp_path / "c")
    table = score_texts(cached, TEXTS)
    assert table[[f"score_{v}" for v in VALUES]].iloc[2].isna().all() and judge.read.count(TEXTS[2]) == 1
    judge.fails.clear()
    np.testing.assert_array_equal(cached.score(TEXTS), judge.inner.score(TEXTS))
    assert judge.read.count(TEXTS[2]) == 2 and judge.read.count(TEXTS[0]) == 1


def test_other_judges_in_one_file_do_not_meet(tmp_path):
    """Judges of one name with other words or another fingerprint have readings of their own; an equal one shares."""
    cache = JsonCache(tmp_path / "c")
    other = {"benevolence": ("boss",)}
    for lists in (LISTS, other):
        judge = WordListJudge(lists, half=None)
        np.testing.assert_array_equal(CachedJudge(judge, cache).score(TEXTS), judge.score(TEXTS))
    assert len(cache) == 2 * len(set(TEXTS))
    CachedJudge(WordListJudge(dict(LISTS), half=None), cache).score(TEXTS)
    assert len(cache) == 2 * len(set(TEXTS))
    first, second = Counting(LISTS), Counting(other, fingerprint="counting 2")
    for judge in (first, second):
        np.testing.assert_array_equal(CachedJudge(judge, cache).score(TEXTS), judge.inner.score(TEXTS))


def test_a_judge_that_cannot_be_told_is_refused():
    class Odd(WordListJudge):
        def __init__(self):
            object.__setattr__(self, "lists", {"power": lambda: 1})
            object.__setattr__(self, "half", None)

    with pytest.raises(InputError, match="has no hashable content"):
        CachedJudge(Odd())


def test_exact_judge_behind_a_cache():
    texts, prompts = ["wants to win a prize .", "flumm"], ["at the market , tom thinks that tom"] * 2
    pair = ExactJudge(), CachedJudge(ExactJudge())
    for part in ("score", "oppose", "valid"):
        np.testing.assert_array_equal(getattr(pair[1], part)(texts, prompts), getattr(pair[0], part)(texts, prompts))


def test_a_chat_judge_behind_a_cache_asks_lost_questions_once_a_scoring(tmp_path):
    with FaultyServer({TEXTS[2]: ["400"]}, opposes=True) as server:
        chat = ChatJudge("m", server.url, key_env=None, opposes=True, max_retries=0)
        cached = CachedJudge(chat, tmp_path / "c")
        first = score_texts(cached, TEXTS)
        assert first[f"score_{VALUES[0]}"].isna().tolist() == [False, False, True, False, False, False]
        assert server.seen.count(TEXTS[2]) == 1 and cached.question == chat.question
        assert not score_texts(cached, TEXTS).isna().any(axis=None)
        assert len(server.seen) == len(set(TEXTS)) - 1 + 1  # the empty text is never asked about
