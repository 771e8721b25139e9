"""ValueBench items, whole, broken, and the real set where it is at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.text_lines import write
from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES

HEADER = "questionnaire,item,value,agreement,question"


def test_valuebench_directions_and_presence(tmp_path: Path) -> None:
    lines = [f"PVQ40,Item {v} {i}.,{v},1,?" for v in ("Self-Direction", "Hedonism") for i in range(3)]
    lines += [f"6FPQ,I strive {i}.,Achievement,{(1, -1)[i % 2]},?" for i in range(6)]
    lines += ["6FPQ,I strive 0.,Achievement,1,?", "X,Other.,Anxiety,1,?"]
    found = prompts.load(f"valuebench:{write(tmp_path / 'v.csv', HEADER, *lines)}")
    assert found.values == ("self-direction", "hedonism", "achievement")
    assert found.note == (
        "1 of 14 items left out: their values are not among Schwartz's ten. 1 of 14 items left out: repeated ones. "
        "No reversed items, so presence against absence: self-direction, hedonism."
    )
    own = found.df[found.df["value"] == "achievement"]
    assert own["pole"].value_counts().to_dict() == {"+": 3, "-": 3} and set(own["source"]) == {"valuebench"}
    absence = found.df[(found.df["value"] == "hedonism") & (found.df["pole"] == "-")]
    assert len(absence) == 6 and not absence["text"].str.contains("Hedonism").any()
    assert absence["source"].str.contains("presence against absence").all()


@pytest.mark.parametrize(
    ("line", "message"),
    [("PVQ40,Item.,Power,0,?", "line 2: agreement is '0'"), ("X,Item.,Anxiety,1,?", "none of its 1 items")],
)
def test_valuebench_broken(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.load(f"valuebench:{write(tmp_path / 'v.csv', HEADER, line)}")


def test_valuebench_on_the_real_set(shared_dir: Path) -> None:
    found = prompts.load(f"valuebench:{shared_dir / 'data' / 'valuebench' / 'value_orientation.csv'}")
    assert found.values == VALUES
    # The portrait questionnaire has 40 items; each stands as + for the value it portrays.
    assert (found.df["pole"] == "+").sum() >= 40
