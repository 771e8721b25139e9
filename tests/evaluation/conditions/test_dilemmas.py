"""Dilemmas: questions that offer the steered value, and the judge that answers yes or no."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.letter_judge import push
from neva_tl.core.values import VALUES
from neva_tl.evaluation import assemble, observe
from neva_tl.evaluation.conditions.dilemmas import YesNoJudge, balance, offers, on_dilemmas, without_opponents

QUESTIONS = pd.DataFrame(
    {
        "value": ["power", "power", "security", "hedonism"],
        "against": ["security", "hedonism", "hedonism", "power"],
        "text": ["Should he rule?", "Should he win?", "Should he lock it?", "Should he eat?"],
        "topic": list("abcd"),
    }
)


def test_dilemmas_leave_out_questions_that_offer_the_steered_value():
    base = pd.DataFrame({f"score_{v}": np.zeros(4) for v in VALUES})
    edited = pd.DataFrame({f"score_{v}": [1.0, 1.0, 0.5, 1.0] for v in VALUES})
    responses = on_dilemmas("m", QUESTIONS, base, {"power": edited})
    assert responses.values == ("hedonism", "power", "security")
    security = responses.values.index("security")
    # security is offered by questions 0 and 2; 0 also offers power
    assert responses.excluded[security].tolist() == [[True, False]]
    assert not responses.excluded[responses.values.index("power")].any()
    assert balance(QUESTIONS).loc["power", "security"] == 1
    assert offers(QUESTIONS, "power").tolist() == [True, True, False, True]


def test_yes_no_judge_scores_both_sides(stories260k):
    judge = YesNoJudge(QUESTIONS)
    base = observe(stories260k, None, None, judge).items
    power, security = (base.scores[base.values.index(v)] for v in ("power", "security"))
    # question 0: yes is power, no is security
    assert power[0] + security[0] == pytest.approx(1.0)
    assert ((power > 0) & (power < 1)).all()
    turned = YesNoJudge(QUESTIONS.assign(first=["against", "value", "value", "value"]))
    again = observe(stories260k, None, None, turned).items
    assert again.scores[again.values.index("power")][0] == pytest.approx(1.0 - power[0])
    moved = observe(stories260k, push(), None, judge).items
    responses = without_opponents(assemble("m", base, {"power": moved}), QUESTIONS)
    assert responses.excluded is not None
