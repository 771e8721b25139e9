"""The survey judge against planted answers and hand computation."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import fake_answers as fake
from helpers.paths import SHARED
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.editing import AddVector, RolePrompt, edit
from neva_tl.evaluation import ModelJudge, SurveyJudge, observe
from neva_tl.evaluation.judges.survey import LEVELS, SurveyItem, expected_level, own_items
from neva_tl.evaluation.labels.choices import letter_logprobs
from neva_tl.models import inference
from neva_tl.prompts.example import Example

VALUEBENCH = SHARED / "data/valuebench/value_orientation.csv"


def small(**options):
    items = (
        SurveyItem("I give orders.", "power", 1, "a"),
        SurveyItem("I follow orders.", "power", -1, "b"),
        SurveyItem("I like change.", "stimulation", 1, "c"),
    )
    return SurveyJudge(items, levels=("no", "some", "yes"), **options)


def test_scores_by_hand(monkeypatch):
    """P(no, some, yes) = (.2, .3, .5) whatever the order of the scale: expected level .65."""
    p = {"no": 0.2, "some": 0.3, "yes": 0.5}
    monkeypatch.setattr(inference, "answer_logprobs", fake.answers(lambda prompt, letter, option: math.log(p[option])))
    found = small().measure(None)
    assert found.values == ("stimulation", "power") and found.bounds == (0.0, 1.0)
    np.testing.assert_allclose(found.scores[0], [0.65])
    np.testing.assert_allclose(found.scores[1], [0.65, 0.35])
    assert found.clusters[1].tolist() == ["a", "b"]
    np.testing.assert_allclose(found.extra["order"][0], 0, atol=1e-12)
    np.testing.assert_allclose(found.extra["mass"][0], 1)
    centred = small(centre=True).measure(None)
    np.testing.assert_allclose(centred.scores[1], [0.65 - 0.55, 0.35 - 0.55])
    assert centred.bounds is None and abs(np.concatenate(centred.scores).sum()) < 1e-12


def test_probability_off_the_letters_does_not_count_and_is_reported(monkeypatch):
    p = {"no": 0.02, "some": 0.03, "yes": 0.05}
    monkeypatch.setattr(inference, "answer_logprobs", fake.answers(lambda prompt, letter, option: math.log(p[option])))
    found = small().measure(None)
    np.testing.assert_allclose(found.scores[0], [0.65])
    np.testing.assert_allclose(found.extra["mass"][0], 0.1)


def test_a_liking_for_letters_cancels_and_is_reported(monkeypatch):
    """A model that answers by the letter alone says .5 to everything; the difference of the two orders shows it."""
    monkeypatch.setattr(
        inference, "answer_logprobs", fake.answers(lambda prompt, letter, option: 3.0 * "ABC".index(letter))
    )
    found = small().measure(None)
    np.testing.assert_allclose(np.concatenate(found.scores), 0.5)
    weights = np.exp([0.0, 3.0, 6.0])
    late = weights @ [0, 0.5, 1] / weights.sum()
    np.testing.assert_allclose(found.extra["order"][0], late - (1 - late))
    assert found.extra["order"][0][0] > 0.8


def test_a_habit_of_agreeing_raises_no_value_of_our_own_items(monkeypatch):
    monkeypatch.setattr(
        inference, "answer_logprobs", fake.answers(lambda prompt, letter, option: 2.0 * LEVELS.index(option))
    )
    found = SurveyJudge.load().measure(None)
    np.testing.assert_allclose([scores.mean() for scores in found.scores], 0.5)


def test_a_planted_value_is_found(monkeypatch, tiny):
    """Agrees with the statements for benevolence, disagrees with those against it, shrugs at all others."""
    own = {item.text: item.agreement for item in own_items() if item.value == "benevolence"}

    def liking(prompt, letter, option):
        agreement = next((sign for text, sign in own.items() if text in prompt), 0)
        return float(agreement * LEVELS.index(option))

    monkeypatch.setattr(inference, "answer_logprobs", fake.answers(liking))
    found = observe(tiny, None, None, SurveyJudge.load()).items
    means = dict(zip(found.values, (scores.mean() for scores in found.scores), strict=True))
    assert max(means, key=means.get) == "benevolence" and means["benevolence"] > 0.85
    assert all(abs(x - 0.5) < 1e-9 for name, x in means.items() if name != "benevolence")


def test_our_own_items_are_balanced_and_distinct():
    items = own_items()
    assert len({item.text for item in items}) == len({item.name for item in items}) == 40
    counted = Counter((item.value, item.agreement) for item in items)
    assert counted == {(name, sign): 2 for name in VALUES for sign in (1, -1)}


@given(st.lists(st.lists(st.floats(-30, 0), min_size=4, max_size=4), min_size=1, max_size=5))
def test_expected_level_is_a_weighted_mean(rows):
    logprobs = np.array(rows)
    found = expected_level(logprobs)
    assert (found >= -1e-12).all() and (found <= 1 + 1e-12).all()
    np.testing.assert_allclose(found, 1 - expected_level(logprobs[:, ::-1]), atol=1e-12)
    np.testing.assert_allclose(found, expected_level(logprobs + 7.0), atol=1e-12)


# ---------------------------------------------------------------- a real model


def test_letters_equal_a_direct_sum(tiny):
    prompts = ["Pick one. A) red B) blue", "Which is it? A) yes B) no"]
    found = letter_logprobs(tiny, prompts, 2)
    for i, prompt in enumerate(prompts):
        for j, letter in enumerate("AB"):
            direct, _ = inference.answer_logprobs(tiny, [Example(prompt, letter)])
            assert found[i, j] == pytest.approx(direct[0], abs=1e-4)


def test_edits_and_roles_move_the_survey_and_an_edit_it_cannot_see_is_refused(tiny):
    judge = SurveyJudge.load().only(["power"])
    assert isinstance(judge, ModelJudge) and judge.values == ("power",)
    base = observe(tiny, None, None, judge).items
    vector = AddVector({1: np.random.default_rng(0).normal(0, 2.0, 32)}, scope="last")
    moved = observe(tiny, vector, None, judge).items
    told = observe(tiny, RolePrompt("You are a king."), None, judge).items
    assert np.abs(moved.scores[0] - base.scores[0]).max() > 1e-3
    assert np.abs(told.scores[0] - base.scores[0]).max() > 1e-4
    blind = vector.with_scope("generated")
    with edit(tiny, blind) as session, pytest.raises(InputError, match="scope 'last' or 'all'"):
        judge.measure(tiny, session)


# ---------------------------------------------------------------- files


def test_a_questionnaire_of_ones_own(tmp_path):
    file = tmp_path / "q.csv"
    file.write_text(
        "questionnaire,item,value,agreement,question\nQ1,I rule.,Power,1,x\nQ1,I rule.,Power,1,x\n"
        "Q2,I obey.,Power,-1,x\nQ2,I wander.,Self Direction,1,x\nQ2,I tidy.,Order,1,x\n"
    )
    both = SurveyJudge.load(file)
    assert [(i.value, i.agreement) for i in both.items] == [("self-direction", 1), ("power", 1), ("power", -1)]
    assert [i.text for i in SurveyJudge.load(file, questionnaire="Q1").items] == ["I rule."]
    assert len(both.table()) == 3 and "I wander." in both._repr_html_()
    assert both.note == (
        "1 of 5 items left out: their values are not among Schwartz's ten. 1 of 5 items left out: repeated ones."
    )
    assert SurveyJudge.load(file, questionnaire="Q1").note == "1 of 2 items left out: repeated ones."
    assert both.only(["power"]).note == both.note and SurveyJudge.load().note == ""
    with pytest.raises(InputError, match="no items of 'Q3' on the ten values: it has Q1, Q2"):
        SurveyJudge.load(file, questionnaire="Q3")
    with pytest.raises(InputError, match="a survey needs items"):
        both.only(["tradition"])
    file.write_text("questionnaire,item,value,agreement\nQ1,I rule.,Power,yes\n")
    with pytest.raises(InputError, match="line 2: agreement is 'yes'"):
        SurveyJudge.load(file)
    file.write_text("questionnaire,item,value,agreement\nQ1,I rule.,Order,1\n")
    with pytest.raises(InputError, match="ten values"):
        SurveyJudge.load(file)
    with pytest.raises(InputError, match="2 to 26 options, not 1"):
        SurveyJudge.load(levels=("yes",))


@pytest.mark.skipif(not VALUEBENCH.exists(), reason="no ../shared/data beside the project")
def test_pvq40_reads_whole():
    judge = SurveyJudge.load(VALUEBENCH, questionnaire="PVQ40")
    assert len(judge.items) == 40 and judge.values == VALUES
    assert not {item.text for item in judge.items} & {item.text for item in own_items()}
