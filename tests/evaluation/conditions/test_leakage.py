"""Leakage end to end on a small real model: role prompts, opposition, invalid texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.letter_judge import PROMPTS, SHORT, LetterJudge, OpposingJudge, push
from neva_tl.core.values import VALUES
from neva_tl.editing import RolePrompt
from neva_tl.evaluation import csr, leakage, observe, text_responses


def test_leakage_end_to_end_equals_the_texts_it_reports(stories260k):
    edits = {"power": push(), "security": [push(-1.0), push(0.3)]}
    result = leakage(
        stories260k,
        edits,
        PROMPTS,
        LetterJudge(),
        method="m",
        decoding=SHORT,
        n_boot=50,
        n_permutations=9,
        progress=False,
    )
    texts = result.generations
    base = texts[texts["method"] == "unedited"]
    for steered in edits:
        edited = texts[texts["steered"] == steered]
        for measured in VALUES:
            by_hand = edited[f"score_{measured}"].mean() - base[f"score_{measured}"].mean()
            assert result.matrix.loc[steered, measured] == pytest.approx(by_hand)
    assert result.responses.judge == "letters" and result.responses.shared
    assert len(texts) == 36


def test_known_base_is_not_run_again(stories260k):
    base = observe(stories260k, None, PROMPTS, LetterJudge(), decoding=SHORT)
    options = {"decoding": SHORT, "n_boot": 20, "n_permutations": 9, "progress": False}
    a = leakage(stories260k, {"power": push()}, PROMPTS, LetterJudge(), base=base, **options)
    b = leakage(stories260k, {"power": push()}, PROMPTS, LetterJudge(), **options)
    pd.testing.assert_frame_equal(a.matrix, b.matrix)


def test_opposition_feeds_the_circle(stories260k):
    result = leakage(
        stories260k,
        {"power": push()},
        PROMPTS,
        OpposingJudge(),
        decoding=SHORT,
        n_boot=20,
        n_permutations=9,
        progress=False,
    )
    assert result.circle_net
    assert f"oppose_{VALUES[0]}" in result.generations.columns


def test_role_prompt_changes_texts_but_is_not_shown_to_the_judge(stories260k):
    class Watching(LetterJudge):
        def __init__(self):
            self.seen = []

        def score(self, texts, prompts=None):
            self.seen.extend(prompts)
            return super().score(texts, prompts)

    judge = Watching()
    role = RolePrompt("The king was very rich.", joiner=" ")
    told = text_responses(stories260k, role, PROMPTS, judge, decoding=SHORT)
    plain = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=SHORT)
    assert list(told["text"]) != list(plain["text"])
    assert set(judge.seen) == set(PROMPTS)


def test_invalid_texts_score_zero_and_are_counted(stories260k):
    class Strict(LetterJudge):
        def valid(self, texts, prompts=None):
            return np.arange(len(texts)) % 2 == 0

    seen = observe(stories260k, None, PROMPTS, Strict(), decoding=SHORT)
    assert seen.invalid == pytest.approx(0.5)
    assert not seen.items.scores[0][1::2].any()


def test_csr_by_hand():
    estimate = csr(np.array([0.0, 1.0, 1.0, np.nan]), ["a", "a", "b", "b"], n_boot=100)
    assert estimate.est == pytest.approx(2 / 3) and estimate.n == 3
    assert 0 <= estimate.lo <= estimate.est <= estimate.hi <= 1
