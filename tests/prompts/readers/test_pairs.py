"""Pairs of questions, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.text_lines import write
from neva_tl import prompts
from neva_tl.core.errors import InputError


def test_pairs_with_value_column(tmp_path: Path) -> None:
    lines = [f'{v},"Would you, {i}?",Or not {i}?,topic {i}' for v in ("Power", "tradition") for i in range(5)]
    found = prompts.load(f"pairs:{write(tmp_path / 'x.csv', 'value,question_1,question_2,topic', *lines)}")
    assert found.values == ("power", "tradition") and found.paired and len(found) == 20
    first = found.df.groupby("cluster", sort=False).get_group("power/topic 0")
    assert first[["pole", "text"]].to_numpy().tolist() == [["+", "Would you, 0?"], ["-", "Or not 0?"]]
    assert set(found.df["cluster"]) == {f"{v}/topic {i}" for v in ("power", "tradition") for i in range(5)}


def test_pairs_drops_repeated_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "power.csv", "question_1,question_2", "a,b", "c,d", "a,b", "a,e")
    found = prompts.load(f"pairs:{file}")
    assert len(found) == 6 and found.note == "1 of 4 pairs left out: repeated ones."


def test_pairs_named_by_the_file_do_not_depend_on_line_order(tmp_path: Path) -> None:
    lines = [f"do {i},do not {i}" for i in range(20)]
    one = prompts.load(f"pairs:{write(tmp_path / 'a' / 'Self_Direction.csv', 'question_1,question_2', *lines)}")
    two = prompts.load(f"pairs:{write(tmp_path / 'b' / 'self-direction.csv', 'question_1,question_2', *lines[::-1])}")
    assert one.values == ("self-direction",)
    assert one.df.set_index("text")["split"].to_dict() == two.df.set_index("text")["split"].to_dict()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["question_1,other", "a,b"], "line 1: no column 'question_2'"),
        (["question_1,question_2", "a,b"], "x has 1 pairs"),
        (["value,question_1,question_2", "power,a,b", "powr,c,d"], "line 3: unknown value 'powr'"),
        (["value,question_1,question_2", "power,a,b", "power,c, "], "line 3: the text is empty"),
        (["value,question_1,question_2", "power,a,b", "power,a,b"], "power has 1 pairs"),
        (["value,question_1,question_2", "power,a,b"], "power has 1 pairs"),
        (["value,question_1,question_2", "power,a,b", "power,c"], "line 3: 2 fields where the header has 3"),
    ],
)
def test_pairs_broken(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(f"pairs:{write(tmp_path / 'x.csv', *lines)}")
