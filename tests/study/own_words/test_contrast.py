"""The median rule, the AUROC and the pairing against hand computation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from neva_tl.study.own_words.contrast import above_and_below, auroc, pair_rows, separation, single_rows

PLUS = np.array([True, True, True, False, False, False])


@pytest.mark.parametrize(
    ("scores", "keep"),
    [
        # median 3.8: + above it are 5 and 4, - below it are 1 and 3.6
        ([5.0, 4.0, 2.0, 1.0, 6.0, 3.6], [1, 1, 0, 1, 0, 1]),
        # the median 0 is the lowest score: a judge that counts words gives it to every text without one
        ([1.0, 0.0, 0.0, 0.0, 0.0, 1.0], [1, 0, 0, 1, 1, 0]),
        # the median 1 is the highest score
        ([1.0, 1.0, 0.0, 1.0, 1.0, 0.0], [1, 1, 0, 0, 0, 1]),
        # a tie at a median between others belongs to neither side
        ([2.0, 1.0, 1.0, 1.0, 1.0, 0.0], [1, 0, 0, 0, 0, 1]),
        # nothing differs: nothing is kept
        ([1.0] * 6, [0] * 6),
    ],
)
def test_the_median_rule(scores: list[float], keep: list[int]) -> None:
    assert above_and_below(np.array(scores), PLUS).astype(int).tolist() == keep


def test_the_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, plus = np.round(rng.normal(size=60), 1), rng.random(60) < 0.4
    assert len(set(scores)) < 60
    assert auroc(scores, plus) == pytest.approx(roc_auc_score(plus, scores))
    assert np.isnan(auroc(scores, np.ones(60, bool)))


def test_the_interval_resamples_questions_with_both_roles() -> None:
    rng = np.random.default_rng(1)
    questions = np.repeat([f"q{i}" for i in range(40)], 4)
    plus = np.tile([True, True, False, False], 40)
    scores = rng.normal(size=160) + 0.8 * plus
    lone = np.array(["only plus"] * 3)
    result = separation(np.append(scores, [99.0] * 3), np.append(plus, [True] * 3), np.append(questions, lone))
    assert result.n == 40 and result.est == pytest.approx(roc_auc_score(plus, scores))
    assert result.lo is not None and result.hi is not None and result.lo < result.est < result.hi  # type: ignore[operator]
    # as wide as the normal approximation says (Hanley and McNeil, independent answers)
    assert 0.5 < (result.hi - result.lo) / (2 * 1.96 * 0.039) < 2
    assert separation(scores[:4], plus[:4], questions[:4]).est is None


def test_the_strongest_answers_of_a_question_form_its_first_pair() -> None:
    rows = [
        ("q1", "+", "a", 0.6),
        ("q1", "+", "b", 0.9),
        ("q1", "-", "c", 0.2),
        ("q1", "-", "d", 0.1),
        ("q1", "-", "e", 0.3),
        ("q2", "+", "f", 0.9),
    ]
    table = pd.DataFrame(rows, columns=["topic", "pole", "answer", "score"])
    table = table.assign(value="thrift", split="train", kind="plan", question="Why?")
    out = pd.DataFrame(pair_rows(table, "Be brief."))
    assert out[["pair_id", "pole", "text"]].to_numpy().tolist() == [
        ["thrift/q1/0", "+", "Why? b"],
        ["thrift/q1/0", "-", "Why? d"],
        ["thrift/q1/1", "+", "Why? a"],
        ["thrift/q1/1", "-", "Why? c"],
    ]
    single = pd.DataFrame(single_rows(table, "Be brief."))
    assert single["text"].tolist() == [f"Why? {answer}" for answer in "abcdef"] and single["pair_id"].isna().all()
    assert set(out["system"]) == {"Be brief."} and "system" not in pd.DataFrame(pair_rows(table, None))
    for row in out.to_dict("records"):
        assert row["text"][row["answer_start"] : row["answer_end"]] in "abcd"
