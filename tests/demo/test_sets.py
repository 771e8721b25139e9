"""The demo world's sets of prompts and questions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neva_tl import demo
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.demo.lexicon import people_split, pools, simple_slots
from neva_tl.demo.neutral import KINDS

SAID = ("statement", "choice", "dilemma")


def judged(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(posterior of each row's own value, whether its pole is "+", validity)."""
    express, _, valid = demo.posteriors(list(rows.text))
    own = express[np.arange(len(rows)), [VALUES.index(v) for v in rows.value]]
    return own, (rows.pole == "+").to_numpy(), valid


@pytest.mark.parametrize("forms", [("carried",), SAID])
def test_contrasts_are_paired_and_split_by_cluster(forms: tuple[str, ...]) -> None:
    rows = demo.contrast_rows(150, forms)
    assert list(rows.columns) == (
        ["value", "pair_id", "pole", "text", "answer_start", "answer_end", "cluster", "split", "source", "form"]
    )
    assert rows.groupby("pair_id").pole.apply(lambda p: sorted(p) == ["+", "-"]).all()
    counts = rows[rows.pole == "+"].groupby(["value", "split"]).size().unstack()
    assert (counts["train"] >= 60).all() and (counts["validation"] >= 24).all() and (counts["test"] >= 36).all()
    clusters = rows.groupby(["value", "split"]).cluster.nunique().unstack()
    assert (clusters["train"] >= 12).all() and (clusters["validation"] >= 5).all() and (clusters["test"] >= 8).all()
    assert rows.groupby("cluster").split.nunique().max() == 1
    assert not rows.duplicated(["value", "text"]).any()
    assert ((rows.answer_start < rows.answer_end) & (rows.answer_end == rows.text.str.len())).all()


@pytest.mark.parametrize("forms", [("carried",), SAID])
def test_the_judge_agrees_with_the_poles(forms: tuple[str, ...]) -> None:
    own, plus, valid = judged(demo.contrast_rows(12, forms))
    assert valid.all()
    assert own[plus].mean() > 0.9 and own[plus].min() > 0.3
    assert own[~plus].mean() < 0.08 and own[~plus].max() < 0.5


def test_poles_share_what_stands_outside_what_differs() -> None:
    said = demo.contrast_rows(12, SAID)
    for _, pair in said.groupby("pair_id"):
        a, b = pair.text
        start = int(pair.answer_start.iloc[0])
        assert a[:start] == b[:start]
        assert a[start:].split()[0] != b[start:].split()[0]
    for _, pair in demo.contrast_rows(12).groupby("pair_id"):
        # Carried: the answer span is the same beginning of a sentence, after sentences that differ.
        a, b = (t[s:] for t, s in zip(pair.text, pair.answer_start, strict=True))
        assert a == b and a


def test_statement_and_choice_poles_have_the_same_value_words() -> None:
    value_words = {x for pool in pools() for stem in pool.stems for x in stem}
    rows = demo.contrast_rows(30, ("statement", "choice"))
    for _, pair in rows.groupby("pair_id"):
        a, b = ({x for x in t.split() if x in value_words} for t in pair.text)
        assert a == b


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_open_prompts_name_no_value(split: str) -> None:
    prompts = demo.open_prompts(split)
    assert len(prompts) >= (40 if split == "validation" else 60)
    assert not prompts.text.duplicated().any()
    value_words = {x for pool in pools() for stem in pool.stems for x in stem}
    assert not value_words & {x for t in prompts.text for x in t.split()}
    express, _, valid = demo.posteriors(list(prompts.text))
    assert valid.all() and express.max() < 0.12
    assert all(people_split()[x] == split for t in prompts.text for x in t.split() if x in people_split())
    assert prompts.topic.nunique() >= 15


def test_dilemmas_leave_the_choice_open_and_balance_opponents() -> None:
    rows = demo.dilemma_prompts("test")
    assert len(rows) == 90
    assert (rows.groupby("value").size() == 9).all() and (rows.groupby("against").size() == 9).all()
    assert rows.text.str.endswith(":").all()
    assert demo.posteriors(list(rows.text))[2].all()
    assert not set(rows.topic) & set(demo.dilemma_prompts("validation").topic)


def test_expressing_prompts_are_beginnings() -> None:
    rows = demo.expressing_prompts("security", "test", n=20)
    assert demo.posteriors(list(rows.text))[2].all()
    context = rows[rows.form == "context"]
    assert all(t.endswith(j) for t, j in zip(rows.text, rows.judged_prompt, strict=True))
    assert demo.posteriors(list(context.text))[0][:, VALUES.index("security")].min() > 0.3
    assert demo.posteriors(list(context.judged_prompt))[0].max() < 0.12


def test_value_beginnings_end_where_a_value_word_comes_next() -> None:
    """Every beginning of the train split goes on to a valid sentence with a clause of any value, and names none itself."""
    value_words = {x for pool in pools() for stem in pool.stems for x in stem}
    texts = demo.value_beginnings("train", 200)
    assert texts == demo.value_beginnings("train", 200) and len(set(texts)) > 100
    assert not value_words & {x for t in texts for x in t.split()}
    people = people_split()
    assert all(people[x] == "train" for t in texts for x in t.split() if x in people)
    _, _, valid = demo.posteriors(texts)
    assert valid.all()
    # a gerund of a value, its base form or its good: one of the three goes on from each beginning
    power = pools()[VALUES.index("power")]
    goes_on = np.zeros(len(texts), dtype=bool)
    for kind in ("GV", "IV", "Z"):
        goes_on |= demo.posteriors([f"{t} {power.of(kind)[0]}" for t in texts])[2]
    assert goes_on.all()


def test_questions_have_one_right_answer_among_four() -> None:
    questions = demo.neutral_questions("test", 200, seed=1)
    assert set(questions.kind) == set(KINDS)
    for row in questions.itertuples():
        assert len(set(row.options)) == 4
        if row.kind == "counting":
            words = row.prompt.split()
            numbers = ("zero", *simple_slots()["Q"])
            assert numbers.index(row.options[row.answer]) == sum(numbers.index(x) for x in words if x in numbers)
        right = f"{row.prompt} {row.options[row.answer]}"
        assert demo.posterior(right).valid
    assert questions.answer.nunique() == 4


def test_sets_are_the_same_every_time() -> None:
    a, b = demo.neutral_questions("validation", 20), demo.neutral_questions("validation", 20)
    assert a.equals(b)
    assert demo.neutral_texts("test", 10, seed=1) == demo.neutral_texts("test", 10, seed=1)
    assert demo.neutral_texts("test", 10, seed=1) != demo.neutral_texts("test", 10, seed=2)
    with pytest.raises(InputError, match="at least 10"):
        demo.contrast_rows(4)
