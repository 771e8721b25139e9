"""The log-probability judge against direct sums on a real small model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers.contrast_sets import small_set
from neva_tl.core.errors import InputError
from neva_tl.editing import AddVector, LayerProbe, PromptShift, RolePrompt, edit, rewrite
from neva_tl.evaluation.judges import LogProbJudge, logprob
from neva_tl.models import inference
from neva_tl.prompts import Example


@pytest.fixture(scope="module")
def judge(stories260k: Any) -> LogProbJudge:
    neutral = [
        {"topic": str(k), "prompt": "", "affirm": f"Yes, it is {w}.", "negate": f"No, it is not {w}."}
        for k, w in enumerate(("red", "big", "here"))
    ]
    return LogProbJudge.fit(stories260k, small_set(), affirmation=neutral)


def test_logprob_scores_equal_a_direct_sum(stories260k, judge):
    scores = judge.measure(stories260k)
    assert scores.values == ("power", "benevolence")
    pairs = judge.pairs.split("test").for_value("power")
    df, examples = pairs.df, pairs.examples()
    total, count = inference.answer_logprobs(stories260k, examples)
    mean = total / count
    by_pair = {}
    for row, m in zip(df.itertuples(), mean, strict=True):
        by_pair.setdefault(row.cluster, {})[row.pole] = m
    expected = sorted((p["+"] - p["-"]) / judge.sd["power"] for p in by_pair.values())
    np.testing.assert_allclose(sorted(scores.scores[0]), expected, atol=1e-5)
    assert "affirmation" in scores.extra


def test_logprob_unit_is_frozen_on_validation(stories260k, judge):
    scores = judge.only(split="validation").measure(stories260k)
    assert np.std(scores.scores[0], ddof=1) == pytest.approx(1.0, abs=1e-6)
    one = judge.only(split="train", values=("benevolence",), topics=2, affirmation=False)
    narrow = one.measure(stories260k)
    assert narrow.values == ("benevolence",) and len(narrow.scores[0]) == 2 and not narrow.extra


def needed(scope):
    """An edit that reads the prompt."""
    weight = np.random.default_rng(1).normal(0, 0.3, 64)
    probe = LayerProbe(1, np.arange(64), weight, -1.0, weight / (weight @ weight))
    return PromptShift((probe,), dose=6.0, scope=scope)


@pytest.mark.parametrize(
    "change",
    [
        *(AddVector({1: np.random.default_rng(0).normal(0, 0.5, 64)}, scope=s) for s in ("generated", "all")),
        needed("generated"),
    ],
)
def test_logprob_moves_under_an_edit_and_prefix_changes_nothing(stories260k, judge, change):
    quick = judge.with_prefix(stories260k)
    base = judge.measure(stories260k)
    with edit(stories260k, change) as session:
        moved = judge.measure(stories260k, session)
        same = quick.measure(stories260k, session)
    assert np.abs(moved.scores[0] - base.scores[0]).max() > 0.01
    np.testing.assert_allclose(moved.scores[0], same.scores[0], atol=2e-3)


def test_logprob_shows_a_role_prompt(stories260k, judge):
    role = RolePrompt("You are a boss.")
    told = judge.measure(stories260k, rewrite=lambda prompt: rewrite(role, prompt))
    example = judge.items.examples[0]
    direct = inference.answer_logprobs(stories260k, [Example(rewrite(role, example.prompt), example.answer)])
    assert direct[0][0] / direct[1][0] != 0
    assert np.abs(told.scores[0] - judge.measure(stories260k).scores[0]).max() > 1e-3
    quick = judge.with_prefix(stories260k).measure(stories260k, rewrite=lambda prompt: rewrite(role, prompt))
    np.testing.assert_allclose(quick.scores[0], told.scores[0], atol=2e-3)


def test_prompts_are_run_again_only_where_they_must_be(stories260k, judge, monkeypatch):
    """A rewrite that changes nothing (`observe` always hands one over) is no reason."""
    quick, made = judge.with_prefix(stories260k), []
    monkeypatch.setattr(logprob, "PrefixCache", lambda *args, **options: made.append(args) or None)
    vector = AddVector({1: np.full(64, 0.1)}, scope="generated")
    with edit(stories260k, vector) as session:
        quick.measure(stories260k, session, rewrite=lambda prompt: prompt)
    assert not made
    quick.measure(stories260k, rewrite=lambda prompt: f"Be kind. {prompt}")
    with edit(stories260k, vector.with_scope("all")) as session:
        quick.measure(stories260k, session)
    assert len(made) == 2


def test_judge_that_lacks_items_says_so(stories260k, judge):
    with pytest.raises(InputError):
        judge.only(values=("hedonism",))
