"""Reading answers: what is there is read exactly, what is not is missing, and nothing ever raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva_tl.core.values import VALUES
from neva_tl.evaluation.judges.question import AGAIN, QUESTION, message, question, read_answer

scores = st.lists(st.none() | st.floats(0, 1), min_size=10, max_size=10)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(VALUES), inner, max_size=10)
    ),
    max_leaves=15,
)


@given(
    scores,
    scores,
    st.sampled_from(["{}", "```json\n{}\n```", "```\n{}\n```", "<think>power {{1}}</think>\n{}"]),
    st.randoms(),
)
def test_a_full_answer_is_read_back(express, oppose, wrap, random):
    pairs = list(zip(VALUES, express, strict=True))
    random.shuffle(pairs)
    whole = dict(pairs) | {"opposes": dict(zip(VALUES, oppose, strict=True))}
    read = read_answer(wrap.format(json.dumps(whole)), opposes=True)
    assert read.express == tuple(express) and read.oppose == tuple(oppose) and read.failure is None
    assert read.undecided == [*express, *oppose].count(None) and read.n_answered == 20


@given(
    scores, st.sets(st.sampled_from(VALUES)), st.sampled_from(["gone", 1.01, -0.01, "0.5", True, [0.5], float("nan")])
)
def test_what_is_not_a_number_from_0_to_1_is_missing_alone(express, spoilt, instead):
    whole = {name: instead if name in spoilt else x for name, x in zip(VALUES, express, strict=True)}
    whole = {name: x for name, x in whole.items() if x != "gone"}
    read = read_answer(json.dumps(whole))
    assert read.express == tuple(None if n in spoilt else x for n, x in zip(VALUES, express, strict=True))
    assert read.failure == ("incomplete" if spoilt else None)


@given(st.text() | junk.map(lambda x: json.dumps(x)), st.booleans(), st.sampled_from([None, "length", "stop"]))
def test_anything_may_come_and_nothing_is_made_up(content, opposes, finish):
    read = read_answer(content, opposes=opposes, finish=finish)
    for x in (*read.express, *(read.oppose or ())):
        assert x is None or 0 <= x <= 1
    assert (read.oppose is None) != opposes
    if read.failure is None:
        assert all(name in content for name in VALUES)


@pytest.mark.parametrize("cut", range(0, 150, 7))
def test_an_answer_cut_anywhere_is_missing(cut):
    whole = json.dumps(dict.fromkeys(VALUES, 0.5))
    read = read_answer(whole[:cut], finish="length")
    assert set(read.express) == {None} and read.failure == "cut off"


def test_odd_forms_by_hand():
    ten = {name: k / 10 for k, name in enumerate(VALUES)}
    assert read_answer(json.dumps({name.upper().replace("-", " "): x for name, x in ten.items()})).failure is None
    twice = json.dumps(ten)[:-1] + ', "power": 0.9}'
    assert read_answer(twice).express[VALUES.index("power")] is None  # which of the two is not ours to choose
    assert read_answer(f"```json\n{json.dumps(ten)}\n```\nor\n```json\n{json.dumps(ten)}\n```").failure == "no JSON"
    assert read_answer("[" * 100_000).failure == "no JSON"
    assert read_answer(None).failure == "empty" and read_answer(["a"]).failure == "empty"
    assert read_answer("I cannot judge this.").failure == "refusal"
    assert (
        read_answer(json.dumps(ten), opposes=True).failure == "incomplete"
    )  # opposition was asked for and is not there


@given(st.text(), st.text())
def test_a_text_cannot_end_its_own_quotation(text, prompt):
    whole = message(QUESTION, text, prompt, again=True)
    assert whole.startswith(QUESTION) and AGAIN in whole
    assert json.loads(whole.rsplit("\n\n", 1)[1]) == {"prompt": prompt, "text": text}
    assert message(question(True), text, prompt) != message(QUESTION, text, prompt)
