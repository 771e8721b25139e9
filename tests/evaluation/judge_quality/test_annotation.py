"""Sampling, parsing, the answers file and what is read off it, against planted runs and hand computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.evaluation.judge_quality.annotation import (
    KEYS,
    key_of,
    label_rows,
    parse,
    sample,
    self_agreement,
    shown,
    unblinded,
)
from neva_tl.evaluation.labels.answers import Answers
from neva_tl.evaluation.labels.labelled import LabelledTexts

ABOUT = {"run": "x", "n": 8, "seed": 0}
NONE = dict.fromkeys(VALUES, 0)


def generations(methods=("neva", "caa"), steered=("power", "security"), prompts=8) -> pd.DataFrame:
    rows = [
        {
            "method": "unedited",
            "steered": None,
            "target_gain": None,
            "prompt": f"p{k}",
            "topic": f"t{k % 4}",
            "text": f"plain {k}",
        }
        for k in range(prompts)
    ]
    rows += [
        {"method": m, "steered": v, "target_gain": g, "prompt": f"p{k}", "topic": f"t{k % 4}", "text": f"{m} {v} {g} {k}"}
        for m in methods for v in steered for g in (0.2, 0.4) for k in range(prompts)
    ]  # fmt: skip
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- what is asked


def test_edited_texts_come_with_the_unedited_one_of_their_prompt_at_the_largest_gain():
    found = sample(generations(), 20)
    texts = {item.key: item for item in found.items}
    assert len(texts) <= 20
    for row in found.conditions.itertuples():
        edited, base = texts[row.item], texts[row.base]
        assert edited.prompt == base.prompt and edited.topic == row.topic
        assert edited.text.startswith(f"{row.method} {row.steered} 0.4") and base.text.startswith("plain")
    counts = found.conditions.groupby(["method", "steered"]).size()
    assert len(counts) == 4 and counts.max() - counts.min() <= 1


def test_the_choice_hangs_on_the_seed_alone_and_the_order_on_the_annotator_too():
    one, same, other = (sample(generations(), 20, seed) for seed in (0, 0, 1))
    assert one.items == same.items and one.items != other.items
    assert one.order("ann", 0) == same.order("ann", 0) != one.order("bob", 0)


def test_some_texts_are_asked_twice_and_never_at_once():
    for seed in range(20):
        found = sample(generations(), 20, seed)
        plan = found.order("me", seed)
        again = [key for key, twice in plan if twice]
        assert len(plan) == len(found.items) + len(again) and len(again) == 2 and len(set(plan)) == len(plan)
        for key in again:
            assert plan.index((key, 1)) - plan.index((key, 0)) > 1


def test_the_same_text_from_two_conditions_is_asked_once_and_counts_for_both():
    table = generations(methods=("neva", "caa"), steered=("power",))
    table["text"] = table["prompt"]  # no edit changes a text
    found = sample(table, 8)
    assert len(found.items) == 8 and len(found.conditions) == 16
    assert (found.conditions["item"] == found.conditions["base"]).all()


def test_several_texts_of_a_prompt_are_paired_in_order():
    table = pd.concat([generations(steered=("power",), prompts=2)] * 3, ignore_index=True)
    table["text"] = table["text"] + [f" sample {k}" for k in np.repeat(range(3), len(table) // 3)]
    found = sample(table, 40)
    texts = {item.key: item.text for item in found.items}
    for row in found.conditions.itertuples():
        assert texts[row.item].split("sample")[1] == texts[row.base].split("sample")[1]


@pytest.mark.parametrize(
    ("table", "n", "says"),
    [
        (generations(), 1, "at least 2"),
        (generations()[lambda t: t["method"] == "unedited"], 8, "no edited text"),
        (generations().drop(columns="prompt"), 8, "no column 'prompt'"),
    ],
)
def test_nothing_to_ask_is_said(table, n, says):
    with pytest.raises(InputError, match=says):
        sample(table, n)


# ---------------------------------------------------------------- terminal


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[2J\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\x00b\x08c\x7f\x9b31md", "abc31md"),
        ("ab\u202edc\u2066\u200bef", "abdcef"),
        ("one\r\n\n\n\n\ntwo\tthree\rfour", "one\n\ntwo threefour"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
        ("\ud800x", "x"),
    ],
)
def test_hostile_texts_are_disarmed(text, safe):
    assert shown(text) == safe


@given(st.text())
def test_nothing_shown_controls_a_terminal(text):
    found = shown(text)
    assert all(c == "\n" or (c.isprintable() or c.isspace()) for c in found)
    assert not any((ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 for c in found)
    assert shown(found) == found


# ---------------------------------------------------------------- answers


@given(st.sets(st.sampled_from(KEYS)), st.sets(st.sampled_from(KEYS)))
def test_parse_reads_back_what_is_meant(sure, unsure):
    unsure = unsure - sure
    text = ("".join(sorted(sure)) or "n") + (" ?" + " ".join(sorted(unsure)) if unsure else "")
    found = parse(text)
    for key, name in zip(KEYS, VALUES, strict=True):
        assert found[name] == (None if key in unsure else int(key in sure))


def test_parse_by_hand():
    assert parse("n") == NONE and parse("?") == dict.fromkeys(VALUES)
    assert parse("1, 4") == parse("14") == {**NONE, VALUES[0]: 1, VALUES[3]: 1}
    assert parse("?0") == {**NONE, VALUES[9]: None}
    for bad in ("", "x", "1n", "11?1", "- 1"):
        with pytest.raises(InputError):
            parse(bad)


def test_answers_survive_and_later_ones_win(tmp_path: Path):
    file = tmp_path / "deep" / "me.jsonl"
    answers = Answers(file, ABOUT)
    answers.put("a", 0, {**NONE, "power": 1}, "now")
    answers.put("a", 0, {**NONE, "power": None}, "later")
    assert len(file.read_text().splitlines()) == 3
    with file.open("a") as torn:
        torn.write('{"kind": "answer", "item": "b"')
    again = Answers(file, ABOUT)
    assert again.found == {("a", 0): {**NONE, "power": None}}
    again.put("b", 1, NONE, "now")
    assert set(Answers(file, ABOUT).found) == {("a", 0), ("b", 1)}
    assert Answers.about(file) == ABOUT and Answers.about(tmp_path / "none") is None


def test_another_sample_and_damaged_lines_are_refused(tmp_path: Path):
    file = tmp_path / "me.jsonl"
    Answers(file, ABOUT)
    with pytest.raises(InputError, match="n was 8, now 9"):
        Answers(file, {**ABOUT, "n": 9})
    for bad in ("not json", '{"item": "a"}', json.dumps({"item": "a", "again": 0, "labels": {**NONE, "power": 7}})):
        spoilt = tmp_path / "spoilt.jsonl"
        spoilt.write_text(file.read_text() + bad + "\n")
        with pytest.raises(InputError, match="line 2"):
            Answers(spoilt, ABOUT)


# ---------------------------------------------------------------- what the answers say


def answered(found, rule):
    """Answers by a rule of the text; the person sees nothing else."""
    return {(item.key, 0): {**NONE, **rule(item.text)} for item in found.items}


def test_rates_by_method_are_those_of_hand():
    found = sample(generations(prompts=8), 1000)

    # caa always brings its value, neva in even prompts and power with it; unedited texts express security in t0
    def rule(text: str) -> dict[str, int]:
        method, *rest = text.split()
        if method == "plain":
            return {"security": int(int(rest[0]) % 4 == 0)}
        if method == "caa":
            return {rest[0]: 1}
        return {rest[0]: int(int(rest[2]) % 2 == 0), "hedonism": 1}

    table = unblinded(found.conditions, answered(found, rule), n_boot=200).set_index("method")
    assert table.loc["caa", "n"] == 16
    assert table.loc["caa", "csr"] == 1.0 and table.loc["neva", "csr"] == 0.5
    assert table.loc["caa", "csr_base"] == pytest.approx((0 + 0.25) / 2)
    assert table.loc["caa", "gain"] == pytest.approx(1 - 0.125)
    # of the nine others hedonism rises in every text of neva; security falls by .25 where power was steered
    assert table.loc["neva", "others"] == pytest.approx(1 / 9 - 0.5 * 0.25 / 9)
    assert table.loc["neva", "csr_lo"] <= 0.5 <= table.loc["neva", "csr_hi"]


def test_undecided_and_unanswered_texts_do_not_count_as_no():
    found = sample(generations(methods=("caa",), steered=("power",)), 1000)
    answers = answered(found, lambda text: {"power": 1})
    first, second = found.conditions.iloc[0], found.conditions.iloc[1]
    answers[first["item"], 0]["power"] = None
    del answers[second["base"], 0]
    row = unblinded(found.conditions, answers, n_boot=50).iloc[0]
    assert row["n"] == 7 and row["csr"] == 1.0 and row["csr_base"] == 1.0 and row["gain"] == 0.0
    empty = unblinded(found.conditions, {}, n_boot=50).iloc[0]
    assert empty["n"] == 0 and empty["csr"] is None


def test_self_agreement_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 5, 10))
    answers = {}
    for k in range(5):
        answers[f"i{k}", 0] = dict(zip(VALUES, a[k].tolist(), strict=True))
        answers[f"i{k}", 1] = dict(zip(VALUES, b[k].tolist(), strict=True))
    found = self_agreement(answers)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(a.ravel(), b.ravel()))
    assert found["agreement"] == pytest.approx((a == b).mean()) and found["decisions"] == 50 and found["texts"] == 5
    answers["i0", 1] = dict.fromkeys(VALUES)
    assert self_agreement(answers)["decisions"] == 40
    assert self_agreement({})["agreement"] is None
    alike = {("a", 0): NONE, ("a", 1): NONE}
    assert self_agreement(alike)["kappa"] is None and self_agreement(alike)["agreement"] == 1.0


def test_labels_read_back_as_labelled_texts(tmp_path: Path):
    found = sample(generations(), 12)
    answers = answered(found, lambda text: {"power": int("power" in text), "hedonism": None})
    answers[found.items[0].key, 0] = dict.fromkeys(VALUES)
    file = tmp_path / "me.labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in label_rows(found.items, answers)))
    read = LabelledTexts.load(file)
    assert len(read) == len(found.items) - 1 and set(read.splits) == {"test"}
    by_key = {item.key: item for item in found.items}
    for text, context, labels, cluster in zip(read.texts, read.contexts, read.labels, read.clusters, strict=True):
        item = by_key[key_of(context, text)]
        assert cluster == item.topic and labels[VALUES.index("power")] == float("power" in text)
        assert np.isnan(labels[VALUES.index("hedonism")])
