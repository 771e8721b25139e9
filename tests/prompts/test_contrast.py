"""ContrastSet: what it refuses, and that its parts, hash and files keep the content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.prompts import ContrastSet, Example

Rows = list[dict[str, Any]]


def pairs(n: int = 10, values: tuple[str, ...] = ("power",)) -> Rows:
    """Pairs with a question and an answer span."""
    rows = []
    for value in values:
        for i in range(n):
            for pole, verb in (("+", "rule"), ("-", "leave")):
                question, answer = f"What about case {i}?", f"I would {verb} it for {value}."
                rows.append(
                    {
                        "value": value,
                        "pair_id": f"{value}/{i}",
                        "pole": pole,
                        "text": f"{question} {answer}",
                        "answer_start": len(question) + 1,
                        "answer_end": len(question) + 1 + len(answer),
                        "cluster": f"case {i}",
                        "source": "made",
                        "form": "question_1st",
                    }
                )
    return rows


def unpaired(n: int = 10) -> Rows:
    return [{"value": "security", "pole": pole, "text": f"{pole} text {i}"} for pole in "+-" for i in range(n)]


def changed(rows: Rows, row: int, **cells: Any) -> Rows:
    return [{**r, **cells} if i == row else r for i, r in enumerate(rows)]


def test_examples_cut_at_the_answer_span() -> None:
    found = ContrastSet.from_rows(pairs(), "made").examples()
    assert found[0] == Example("What about case 0?", "I would rule it for power.")
    assert ContrastSet.from_rows(unpaired(), "made").examples()[0] == Example("", "+ text 0")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("Pick: (A)", 7, 9),
        ("你好吗？好", 4, 5),
        ("Q:\n\n yes, ", 3, 9),
        ("   yes", 3, 6),
        ("\u3000a  b ", 4, 6),
        ("one two", 5, 7),
    ],
)
def test_examples_are_the_text_up_to_the_answers_end(text: str, start: int, end: int) -> None:
    rows = [
        {"value": "power", "pole": pole, "text": text + pole * i, "answer_start": start, "answer_end": end + i}
        for pole in "+-"
        for i in (1, 2)
    ]
    made = ContrastSet.from_rows(rows, "made")
    for example, row in zip(made.examples(), rows, strict=True):
        assert example.lead + example.answer == row["text"][: int(row["answer_end"])]
        assert len(example.lead) == start and example.prompt == text[:start].rstrip()
    plain = ContrastSet.from_rows(
        [{"value": "power", "pole": pole, "text": f" {pole} {i}\n"} for pole in "+-" for i in range(3)], "made"
    )
    assert [example.answer for example in plain.examples()] == plain.df["text"].tolist()


def test_columns_and_order() -> None:
    found = ContrastSet.from_rows(pairs(4, ("universalism", "hedonism")), "made")
    assert found.values == ("hedonism", "universalism")
    assert found.paired and len(found) == 16
    expected = ["value", "pair_id", "pole", "text", "answer_start", "answer_end", "cluster", "split", "source", "form"]
    assert list(found.df.columns) == expected
    assert str(found.df["answer_start"].dtype) == "Int64"
    loose = ContrastSet.from_rows(unpaired(), "made")
    assert not loose.paired and loose.df["pair_id"].tolist() == [None] * 20 and loose.df["answer_start"].isna().all()


def test_splits_partition_the_set_and_keep_pairs_together() -> None:
    whole = ContrastSet.from_rows(pairs(20, ("power", "benevolence")), "made")
    parts = [whole.split(name) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [40, 16, 24]
    assert set().union(*(set(part.df["cluster"]) for part in parts)) == set(whole.df["cluster"])
    for a in parts:
        for b in parts:
            assert a is b or not set(a.df["cluster"]) & set(b.df["cluster"])


def test_cap_is_a_fixed_part_of_every_split() -> None:
    whole = ContrastSet.from_rows(pairs(40, ("power", "benevolence")), "made")
    part = whole.cap(10)
    again = ContrastSet.from_rows(pairs(40, ("power", "benevolence"))[::-1], "made").cap(10)
    assert sorted(part.df["text"]) == sorted(again.df["text"])
    for _, rows in part.df.groupby("value"):
        assert rows.groupby("split")["pair_id"].nunique().to_dict() == {"train": 5, "validation": 2, "test": 3}
    loose = ContrastSet.from_rows(unpaired(30), "made").cap(10)
    assert loose.df["pole"].value_counts().to_dict() == {"+": 10, "-": 10}
    assert len(whole.cap(1000)) == len(whole)
    with pytest.raises(InputError, match="per_value is 1"):
        whole.cap(1)


def test_for_value() -> None:
    whole = ContrastSet.from_rows(pairs(4, ("power", "hedonism", "security")), "made")
    assert whole.for_value("power").values == ("power",)
    assert whole.for_value("security", "hedonism").values == ("hedonism", "security")
    with pytest.raises(InputError, match="no prompts for tradition"):
        whole.for_value("tradition")
    with pytest.raises(InputError, match="unknown value"):
        whole.for_value("kindness")


@pytest.mark.parametrize("rows", [pairs(12, ("power", "tradition")), unpaired(12)], ids=["pairs", "unpaired"])
def test_a_part_is_the_set_that_its_rows_would_make(rows: Rows) -> None:
    whole = replace(ContrastSet.from_rows(rows, "made", note="as read"), minimum=1)
    assert whole.hash != whole.split("train").hash  # a hash at hand does not travel to the part
    parts = [whole.split("train"), whole.split("test").cap(2), whole.for_value(whole.values[0]), whole.cap(5)]
    for part in [*parts, whole.part(np.arange(len(whole)) < 20, "a few")]:
        again = ContrastSet(part.df, part.name, part.note, part.minimum)
        pd.testing.assert_frame_equal(part.df, again.df)
        assert (part.hash, part.values, part.paired) == (again.hash, again.values, again.paired)
        assert part.note == "as read"
    assert whole.part(np.ones(len(whole), dtype=bool)).name == "made"


@pytest.mark.parametrize(
    ("rows", "dropped", "message"),
    [
        (pairs(), [3], r"part, row 3: pair 'power/1' has the poles \+: a pair is"),
        (unpaired(), range(10), r"part: security has no \+ prompts"),
        (pairs(3), range(4), r"part: power has 1 pairs: at least 2"),
        (pairs(3), range(6), "part holds no prompts"),
    ],
)
def test_a_part_refuses_what_leaving_rows_out_breaks(rows: Rows, dropped: Iterable[int], message: str) -> None:
    whole = ContrastSet.from_rows(rows, "made")
    with pytest.raises(InputError, match=message):
        whole.part(~np.isin(np.arange(len(whole)), list(dropped)), "part")


def test_hash_is_of_the_content() -> None:
    one = ContrastSet.from_rows(pairs(), "made")
    assert one.hash == ContrastSet.from_rows(pairs(), "another name").hash
    other = ContrastSet.from_rows(changed(pairs(), 3, text="What about case 1? I would leave it for Power."), "made")
    assert one.hash != other.hash
    # run folders name their prompts by it: the same content must have the same hash for ever
    assert one.hash == "006b050d0209433100eefc3c81a7ed6ac5485d52eda9b798c7bfcb193a32c212"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("rows", [pairs(6, ("power", "tradition")), unpaired(6)], ids=["pairs", "unpaired"])
def test_files_give_the_same_set_back(tmp_path: Path, ending: str, rows: Rows) -> None:
    rows = changed(rows, 0, text='He said: "é, no"\nand left; the end is far from here')
    saved = ContrastSet.from_rows(rows, "made")
    file = saved.save(tmp_path / f"set{ending}")
    loaded = prompts.load(file)
    assert loaded.hash == saved.hash
    pd.testing.assert_frame_equal(loaded.df, saved.df)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]
    with pytest.raises(InputError, match=r"\.csv, \.jsonl or \.parquet"):
        saved.save(tmp_path / "set.pickle")


def test_prints_well() -> None:
    found = ContrastSet.from_rows(pairs(), "made")
    assert "20 texts" in repr(found) and "paired" in repr(found) and "<table" in found._repr_html_()


LONG = pairs(4) + unpaired(4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no prompts"),
        (changed(pairs(), 4, value="powr"), r"row 5: unknown value 'powr'"),
        (changed(pairs(), 4, value=None), r"row 5: the name of a value is None"),
        (changed(pairs(), 4, pole="plus"), r"row 5: pole is 'plus'"),
        (changed(pairs(), 4, text="   "), r"row 5: the text is empty"),
        (changed(pairs(), 4, cluster=None), r"row 5: the cluster is empty"),
        (changed(pairs(), 4, answer_end=1000), r"row 5: the answer span 19:1000 does not lie inside"),
        (changed(pairs(), 4, answer_start=-1), r"row 5: the answer span -1:"),
        (changed(pairs(), 4, answer_start=30, answer_end=30), r"row 5: the answer span 30:30"),
        (changed(pairs(), 4, answer_start=None), r"row 5: only one end"),
        (changed(pairs(), 4, answer_start=4, answer_end=5, text="What  about it?"), "only spaces"),
        (changed(pairs(), 5, pole="+"), r"row 5: pair 'power/2' has the poles \+ \+"),
        (pairs()[:-1], r"row 19: pair 'power/9' has the poles \+:"),
        (changed(pairs(4, ("power", "security")), 0, value="security"), "differ in value"),
        (changed(pairs(), 4, cluster="another"), "differ in cluster"),
        (changed(pairs(), 4, pair_id=None), "mixes paired and unpaired"),
        (changed(unpaired(), 4, text="+ text 3"), r"row 5: this text appears twice"),
        (changed(unpaired(), 14, text="+ text 3"), r"the same text is both \+ and -"),
        (unpaired()[:10], r"made: security has no - prompts"),
        (unpaired()[10:], r"made: security has no \+ prompts"),
        (pairs(1), r"made: power has 1 pairs: at least 2"),
        (unpaired(1), r"made: security has 1 prompts per pole"),
        (
            [r for i in (0, 1) for r in ({**row, "pair_id": f"{row['pair_id']} {i}"} for row in pairs())],
            r"row 21: this text appears twice",
        ),
        (
            changed(pairs(), 6, text="What about case 1? I would leave it for power."),
            r"row 4: the same text is both \+ and - for power",
        ),
        (
            changed(pairs(4, ("power", "security")), 3, source="another"),
            r"row 3: the two rows of pair 'power/1' differ in source",
        ),
        ([{**row, "split": "dev"} for row in pairs()], "split is 'dev'"),
    ],
)
def test_refuses(rows: Rows, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ContrastSet.from_rows(rows, "made")


def test_a_stated_split_must_keep_clusters_together() -> None:
    rows = [{**row, "split": "train"} for row in unpaired()]
    rows = [{**row, "cluster": "one"} for row in rows]
    ContrastSet.from_rows(rows, "made")
    with pytest.raises(InputError, match="cluster 'one' lies in two splits"):
        ContrastSet.from_rows(changed(rows, 7, split="test"), "made")


def test_splits_too_small_to_use() -> None:
    tiny = ContrastSet.from_rows(pairs(2), "made")
    assert len(tiny.split("train")) == 4
    with pytest.raises(InputError, match="the test split has no prompts for power"):
        tiny.split("test")
    with pytest.raises(InputError, match="unknown split"):
        tiny.split("dev")


def test_missing_column_is_named() -> None:
    with pytest.raises(InputError, match="lacks the column text"):
        ContrastSet(pd.DataFrame({"value": ["power"], "pole": ["+"]}), "made")
