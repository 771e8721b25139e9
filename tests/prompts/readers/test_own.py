"""Our own schema in CSV, JSON lines and Parquet, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.text_lines import write
from neva_tl import prompts
from neva_tl.core.errors import InputError


def test_own_csv_with_the_least_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "value,pole,text", *(f"power,{p},text {p} {i}" for i in range(4) for p in "+-"))
    found = prompts.load(file)
    assert len(found) == 8 and found.values == ("power",) and not found.paired
    assert set(found.df["split"]) == {"train", "validation", "test"}
    assert set(found.df["source"]) == {str(file)}


def test_own_jsonl_keeps_what_is_stated(tmp_path: Path) -> None:
    rows = [
        {"value": "hedonism", "pole": p, "text": f"Q{i}? A{p}", "answer_start": 4, "answer_end": 6, "pair_id": f"p{i}",
         "split": "test", "cluster": f"c{i}", "form": "f", "source": "s", "extra": [1]}
        for i in range(3) for p in "+-"
    ]  # fmt: skip
    found = prompts.load(write(tmp_path / "mine.jsonl", *(json.dumps(row) for row in rows), ""))
    assert found.df.to_dict("records") == [{k: v for k, v in row.items() if k != "extra"} for row in rows]
    assert found.examples()[0] == prompts.Example("Q0?", "A+")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.csv", ["value,pole", "power,+"], r"a\.csv, line 1: no column 'text'"),
        ("a.csv", ["value,pole,text"], "header and no rows"),
        ("a.csv", ["value,pole,text", "power,+,a", "power,-,b,c"], r"a\.csv, line 3: 4 fields where the header has 3"),
        (
            "a.csv",
            ["value,pole,text", "power,+,a", "", "powr,-,b"],
            r"a\.csv, line 4: unknown value 'powr': did you mean 'power'",
        ),
        ("a.csv", ["value,pole,text", 'power,+,"two', 'lines"', "power,?,b"], r"a\.csv, line 4: pole is '\?'"),
        ("a.csv", ["value,pole,text", 'power,+,"open'], r"a\.csv, line 2: unexpected end"),
        ("a.csv", ["value,pole,text,answer_start,answer_end", "power,+,abc,0,x"], r"line 2: answer_end is 'x'"),
        ("a.jsonl", ['{"value": "power"'], r"a\.jsonl, line 1: not JSON"),
        ("a.jsonl", ["", "[1]"], r"a\.jsonl, line 2: a JSON object is expected, not list"),
        ("a.jsonl", ['{"value": "power", "pole": "+"}'], r"a\.jsonl, line 1: no key 'text'"),
        ("a.jsonl", [""], "holds no JSON objects"),
        ("a.parquet", ["no parquet"], "is not a parquet file"),
    ],
)
def test_own_schema_broken(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(write(tmp_path / name, *lines))


def test_parquet_without_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"value": ["power"], "text": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"no column 'pole'"):
        prompts.load(tmp_path / "a.parquet")


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("value,pole,text\npower,+,café\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        prompts.load(tmp_path / "a.csv")
