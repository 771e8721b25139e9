"""The exact judge on texts outside the demo world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.contrast_sets import small_set
from neva_tl.evaluation.judges import ExactJudge, LogProbJudge
from neva_tl.evaluation.judges.base import reads_texts


def test_exact_judge_zeroes_invalid_texts(monkeypatch):
    from neva_tl import demo

    def posteriors(texts, prompts):
        n = len(texts)
        return np.full((n, 10), 0.9), np.full((n, 10), 0.2), np.array([t != "zzz" for t in texts])

    monkeypatch.setattr(demo, "posteriors", posteriors, raising=False)
    judge = ExactJudge()
    assert judge.score(["fine", "zzz"])[:, 0].tolist() == [0.9, 0.0]
    assert judge.oppose(["fine", "zzz"])[:, 0].tolist() == [0.2, 0.0]
    assert judge.valid(["fine", "zzz"]).tolist() == [True, False]
    assert reads_texts(judge)


@pytest.fixture(scope="module")
def judge(stories260k: Any) -> LogProbJudge:
    neutral = [
        {"topic": str(k), "prompt": "", "affirm": f"Yes, it is {w}.", "negate": f"No, it is not {w}."}
        for k, w in enumerate(("red", "big", "here"))
    ]
    return LogProbJudge.fit(stories260k, small_set(), affirmation=neutral)
