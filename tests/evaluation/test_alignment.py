"""Conditions before judges on a small real model: common random numbers, role prompts, missing scores, doses, dilemmas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.editing import AddVector, RolePrompt, calibrate
from neva_tl.evaluation import Decoding, assemble, csr, dose_metric, dose_response, leakage, observe, text_responses
from neva_tl.evaluation.conditions.dilemmas import YesNoJudge, balance, offers, on_dilemmas, without_opponents
from neva_tl.evaluation.conditions.observe import observe_many, prompt_table
from neva_tl.evaluation.judges.base import ItemScores, legible

PROMPTS = ["Once upon a time", "The girl said", "Tom went to the", "They saw a big", "It was very", "One day a cat"]
SHORT = Decoding(max_new_tokens=6, temperature=1.0, samples=2, seed=3)


class LetterJudge:
    """Value j's score is the share of the text's letters that are the j-th of ten common ones: moves with any edit."""

    name, unit = "letters", "share"
    letters = "etaoinshrd"

    def score(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return np.array([[t.lower().count(c) / max(len(t), 1) for c in self.letters] for t in texts])

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray | None:
        return None

    def valid(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return legible(texts)


class OpposingJudge(LetterJudge):
    """Also says what each text opposes."""

    def oppose(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        return np.full((len(texts), 10), 0.1)


def push(scale: float = 1.0, **options: Any) -> AddVector:
    return AddVector({2: scale * np.random.default_rng(0).normal(0, 1, 64)}, **options)


def test_the_same_condition_gives_the_same_texts(stories260k):
    a = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=SHORT)
    b = text_responses(stories260k, push(0.0), PROMPTS, LetterJudge(), decoding=SHORT)
    assert list(a["text"]) == list(b["text"])
    assert len(a) == 12 and list(a["sample"][:2]) == [0, 1]
    assert a["text"].nunique() > 6  # samples of one prompt differ


def test_common_random_numbers_make_small_edits_small(stories260k):
    """Under common random numbers a tiny edit changes few texts; with other numbers nearly all would differ."""
    base = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=SHORT)["text"]
    near = text_responses(stories260k, push(1e-4), PROMPTS, LetterJudge(), decoding=SHORT)["text"]
    other = text_responses(stories260k, None, PROMPTS, LetterJudge(), decoding=Decoding(6, 1.0, 2, seed=4))["text"]
    assert (base == near).mean() > 0.9
    assert (base == other).mean() < 0.5


def test_conditions_observed_together_equal_those_observed_alone(stories260k):
    """An edit, none, two edits and a role prompt in common batches: the same texts, random numbers and scores."""
    conditions = [(push(),), (), (push(-1.0), push(0.3)), (RolePrompt("Be good."),)]
    together = observe_many(stories260k, conditions, PROMPTS, OpposingJudge(), decoding=replace(SHORT, batch_size=13))
    for edits, found in zip(conditions, together, strict=True):
        alone = observe(stories260k, edits, PROMPTS, OpposingJudge(), decoding=SHORT)
        pd.testing.assert_frame_equal(found.generations, alone.generations)
        assert all(np.array_equal(a, b) for a, b in zip(found.items.scores, alone.items.scores, strict=True))
        assert found.net is not None and found.invalid == alone.invalid


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


def test_bad_input_is_refused(stories260k):
    with pytest.raises(InputError, match="at least one edit"):
        leakage(stories260k, {}, PROMPTS, LetterJudge())
    with pytest.raises(InputError, match="reads texts"):
        leakage(stories260k, {"power": push()}, None, LetterJudge(), progress=False)
    with pytest.raises(InputError, match="unknown value"):
        leakage(stories260k, {"greed": push()}, PROMPTS, LetterJudge(), progress=False)
    with pytest.raises(InputError, match="no open prompts"):
        prompt_table([])
    with pytest.raises(InputError, match="temperature"):
        Decoding(samples=2)
    scores = ItemScores(("power",), (np.zeros(3),), (np.array(list("abc")),))
    other = ItemScores(("power",), (np.zeros(2),), (np.array(list("ab")),))
    with pytest.raises(InputError, match="other items"):
        assemble("m", scores, {"power": other})


def test_csr_by_hand():
    estimate = csr(np.array([0.0, 1.0, 1.0, np.nan]), ["a", "a", "b", "b"], n_boot=100)
    assert estimate.est == pytest.approx(2 / 3) and estimate.n == 3
    assert 0 <= estimate.lo <= estimate.est <= estimate.hi <= 1


# ---------------------------------------------------------------- doses


def test_dose_response_starts_at_nothing_and_marks_admissible_doses(stories260k):
    table = dose_response(
        stories260k, push(), PROMPTS, LetterJudge(), value="power", doses=(1e-6, 1.0, 60.0),
        texts=["Once upon a time there was a dog.", "The sun was in the sky."], decoding=SHORT, n_boot=50, progress=False,
    )  # fmt: skip
    assert table["gain"].iloc[0] == pytest.approx(0.0, abs=1e-9)
    assert table["kl"].is_monotonic_increasing and table["kl"].iloc[0] < 1e-4
    assert table["admissible"].iloc[0]
    assert {"gain_lo", "gain_hi", "leakage", "ppl"} <= set(table.columns)
    with pytest.raises(InputError, match="does not say which value"):
        dose_response(stories260k, push(), PROMPTS, LetterJudge(), progress=False)


def test_dose_metric_serves_calibrate(stories260k):
    metric = dose_metric(stories260k, PROMPTS, LetterJudge(), value="power", decoding=SHORT)
    found = calibrate(push(), metric, 0.5, grid=(0.5, 1.0), refine=0)
    assert found.status(0.5) == "unreached" and len(found.table) == 2


# ---------------------------------------------------------------- dilemmas

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
