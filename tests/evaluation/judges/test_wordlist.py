"""The word-list judge on texts whose right answer is known by hand."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.contrast_sets import small_set
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges import LogProbJudge, WordListJudge
from neva_tl.prompts import words
from neva_tl.prompts.wordlists import half_of

LISTS = {"benevolence": ("help", "caring"), "power": ("boss",), "security": ("lock", "help")}
POWER, KIND, SAFE = (VALUES.index(v) for v in ("power", "benevolence", "security"))


def test_wordlist_counts_saturate_and_negation_turns_them():
    judge = WordListJudge(LISTS, half=None)
    texts = ["They help and help again.", "He is the boss.", "I never help anyone.", "She walked home.", ""]
    score, oppose = judge.score(texts), judge.oppose(texts)
    assert score[0, KIND] == score[0, SAFE] == pytest.approx(0.75)  # a word may be on two lists: nothing is normalised
    assert score[1, POWER] == pytest.approx(0.5) and score[1, KIND] == 0
    assert score[2, KIND] == 0 and oppose[2, KIND] == pytest.approx(0.5)
    assert not score[3].any() and not score[4].any()
    assert list(judge.valid(texts)) == [True, True, True, True, False]


def test_wordlist_meets_inflections_and_ends_negation_at_the_clause():
    judge = WordListJudge(LISTS, half=None)
    score = judge.score(["He helped them, helping for hours.", "It was not so. They help.", "not here but help came"])
    assert score[0, KIND] == pytest.approx(0.75)
    assert score[1, KIND] == pytest.approx(0.5)
    assert score[2, KIND] == pytest.approx(0.5)


def test_wordlist_scores_zero_for_degenerate_text():
    judge = WordListJudge(LISTS, half=None)
    assert not judge.score(["help " * 30]).any()


def test_wordlist_reads_half_b_alone():
    judge = WordListJudge()
    for name in VALUES:
        assert set(judge.lists[name]) == set(words(name, half="B"))
        other = " ".join(w for w in words(name, half="A"))
        hits = judge.score([f"There is {w} there." for w in words(name, half="A")])
        assert not hits.any(), other
        j = VALUES.index(name)
        single = [w for w in words(name, half="B") if w.isalpha()]
        assert (judge.score([f"There is {w} there." for w in single])[:, j] > 0).mean() > 0.9
    assert half_of(words("power", half="B")[0]) == "B"


@pytest.fixture(scope="module")
def judge(stories260k: Any) -> LogProbJudge:
    neutral = [
        {"topic": str(k), "prompt": "", "affirm": f"Yes, it is {w}.", "negate": f"No, it is not {w}."}
        for k, w in enumerate(("red", "big", "here"))
    ]
    return LogProbJudge.fit(stories260k, small_set(), affirmation=neutral)
