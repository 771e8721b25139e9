"""Files of one prompt with two answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neva_tl import prompts
from neva_tl.core.errors import InputError

ROWS = [(f"What do you do with coin {i}?", f"I keep coin {i}.", f"I spend coin {i}.") for i in range(6)]


def write_csv(file: Path, header: str, rows: list[tuple[str, ...]] = ROWS) -> Path:
    file.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("header", ["prompt,plus,minus", "prompt,chosen,rejected", "\ufeffprompt,plus,minus"])
def test_one_pair_a_line_named_after_the_file(tmp_path: Path, header: str) -> None:
    pairs = prompts.load(write_csv(tmp_path / "saving_money.csv", header))
    assert pairs.values == ("saving-money",) and pairs.paired and len(pairs) == 12
    by_pole = {pole: rows for pole, rows in pairs.df.groupby("pole")}
    assert set(by_pole["+"]["text"]) == {f"{prompt} {plus}" for prompt, plus, _ in ROWS}
    assert set(by_pole["-"]["text"]) == {f"{prompt} {minus}" for prompt, _, minus in ROWS}
    for example in pairs.examples():
        assert example.prompt.endswith("?") and example.answer.startswith("I ") and example.lead == example.prompt + " "


def test_jsonl_and_csv_are_the_same_set(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "saving.csv", "prompt,plus,minus")
    lines = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) for row in reversed(ROWS)]
    (tmp_path / "saving.jsonl").write_text("\n".join(lines) + "\n")
    first, second = prompts.load(table), prompts.load(tmp_path / "saving.jsonl")
    order = ["pair_id", "pole"]
    columns = ["value", "pair_id", "pole", "text", "cluster", "split", "answer_start", "answer_end"]
    assert first.df.sort_values(order)[columns].to_dict("list") == second.df.sort_values(order)[columns].to_dict("list")


def test_value_and_topic_columns(tmp_path: Path) -> None:
    rows = [(*row, ("Thrift", "humour")[i % 2], f"t{i // 2}") for i, row in enumerate(ROWS)]
    pairs = prompts.load(write_csv(tmp_path / "two.csv", "prompt,plus,minus,value,topic", rows))
    assert set(pairs.values) == {"thrift", "humour"} and pairs.df["cluster"].nunique() == 6


def test_repeated_lines_are_counted(tmp_path: Path) -> None:
    pairs = prompts.load(write_csv(tmp_path / "saving.csv", "prompt,plus,minus", [*ROWS, ROWS[0]]))
    assert len(pairs) == 12 and "1 of 7 pairs" in pairs.note and "repeated" in pairs.note


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("prompt,plus", [row[:2] for row in ROWS], "value"),
        ("prompt,plus,minus", [("a?", "", "c")], "line 2"),
        ("prompt,plus,minus", [], "no"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, header: str, rows: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prompts.load(write_csv(tmp_path / "bad.csv", header, rows))
    assert "\n" not in str(caught.value)
