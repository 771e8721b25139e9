"""Judges on texts and items whose right answer is known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.editing import AddVector, LayerProbe, PromptShift, RolePrompt, edit, rewrite
from neva_tl.evaluation.judges import ExactJudge, LogProbJudge, WordListJudge, legible, logprob, repeated_share
from neva_tl.evaluation.judges.base import reads_texts
from neva_tl.evaluation.judges.items import affirmation_items, pair_items
from neva_tl.models import inference
from neva_tl.prompts import ContrastSet, Example, words
from neva_tl.prompts.wordlists import half_of

LISTS = {"benevolence": ("help", "caring"), "power": ("boss",), "security": ("lock", "help")}
POWER, KIND, SAFE = (VALUES.index(v) for v in ("power", "benevolence", "security"))


def small_set(paired: bool = True, values=("power", "benevolence"), topics: int = 10) -> ContrastSet:
    """Short contrast texts over several topics; answers marked."""
    rows = []
    for v in values:
        for t in range(topics):
            for pole, answer in (
                ("+", f"Yes, {v} item {t} is good and I like it"),
                ("-", f"No, item {t} is not for me"),
            ):
                prompt = f"What about thing {t}?"
                text = f"{prompt} {answer}"
                row = {"value": v, "pole": pole, "text": text, "cluster": f"{v}-{t}", "form": "question_1st"}
                row |= {"answer_start": len(prompt) + 1, "answer_end": len(text)}
                rows.append(row | ({"pair_id": f"{v}-{t}"} if paired else {}))
    return ContrastSet.from_rows(rows, "small")


# ---------------------------------------------------------------- texts


def test_repetition_by_hand():
    assert repeated_share("a b c") == 0.0
    assert repeated_share("a b c d e f g") == 0.0
    # 9 four-grams over "a b c d" thrice, 4 of them distinct
    assert repeated_share("a b c d a b c d a b c d") == pytest.approx(1 - 4 / 9)
    assert list(legible(["", "  ", "...", "I went home.", "no " * 20])) == [False, False, False, True, False]


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


# ---------------------------------------------------------------- items


def test_pair_items_align_poles_and_clusters():
    items = pair_items(small_set())
    for group in items.groups:
        assert group.paired and len(group.plus) == len(group.minus) == len(group.clusters) == 10
        for plus, minus, cluster in zip(group.plus, group.minus, group.clusters, strict=True):
            topic = cluster.split("-")[1]
            assert items.examples[plus].prompt == items.examples[minus].prompt == f"What about thing {topic}?"
            assert items.examples[plus].answer.startswith("Yes") and items.examples[minus].answer.startswith("No")


def test_unpaired_scores_average_to_the_difference_of_pole_means():
    group = pair_items(small_set(paired=False)).groups[0]
    per_token = np.random.default_rng(0).normal(size=40)
    expected = per_token[group.plus].mean() - per_token[group.minus[:7]].mean()
    uneven = type(group)(group.name, group.plus, group.minus[:7], group.clusters[:17], False)
    assert uneven.scores(per_token).mean() == pytest.approx(expected)
    assert not group.paired and len(group.clusters) == 20


def test_items_can_be_limited_by_topic_number_and_form():
    pairs = small_set()
    assert all(len(g.plus) == 4 for g in pair_items(pairs, per_value=4).groups)
    limited = pair_items(pairs, topics=3).groups[0]
    assert len(set(limited.clusters)) == 3
    again = pair_items(pairs, topics=5).groups[0]
    assert set(limited.clusters) <= set(again.clusters)
    with pytest.raises(InputError, match="no rows of form"):
        pair_items(pairs, forms=("statement_3rd",))


def test_affirmation_pairs_name_no_value():
    items = affirmation_items()
    assert len(items.groups[0].plus) >= 30
    text = " ".join(e.answer for e in items.examples)
    own = {w for v in VALUES for w in words(v)}
    used = {w.strip(".,").lower() for w in text.split()}
    assert len(used & own) <= 5


def test_unit_needs_spread():
    group = pair_items(small_set()).groups[0]
    with pytest.raises(InputError, match="do not differ"):
        group.sd(np.zeros(100))


# ---------------------------------------------------------------- asking a model


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
