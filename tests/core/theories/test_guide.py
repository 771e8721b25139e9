"""The guide's file of a theory and the example in examples/ are theories, and the guide names every field."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import neva_tl as nv
from helpers.paths import ROOT
from neva_tl.core.theories import Value, left_out

GUIDE = (ROOT / "docs" / "guides" / "theories.md").read_text(encoding="utf-8")
NAMES = ("calm", "thrift", "welcome", "zeal")


@pytest.fixture
def guide(tmp_path: Path) -> nv.ValueTheory:
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "guide.yaml").write_text(block, encoding="utf-8")
    return nv.ValueTheory.load(tmp_path / "guide.yaml")


def test_the_guides_theory_is_read_as_the_guide_says(guide: nv.ValueTheory) -> None:
    assert guide.names == NAMES and guide.has_groups and guide.opposed("calm", "zeal") and not guide.has_circle
    assert guide.value("thrift").colour == "#3472c9" and "mend" in guide.value("thrift").words
    assert guide.groups == {"feeling": ("calm", "welcome"), "doing": ("thrift", "zeal")}
    assert left_out(guide) == "the theory household has no circle: left out are circle test and circle plots"


def test_the_guide_names_every_field_and_no_other() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE))
    assert named == {field.name for field in fields(Value)} - {"name"}


def test_the_example_is_the_theory_of_its_pairs() -> None:
    theory = nv.ValueTheory.load(ROOT / "examples" / "household.yaml")
    pairs = nv.prompts.load(ROOT / "examples" / "household.csv", theory=theory)
    assert pairs.values == theory.names == NAMES and pairs.theory == theory
    assert pairs.df.groupby("value")["pair_id"].nunique().to_dict() == dict.fromkeys(NAMES, 40)
    lengths = pairs.df.assign(length=pairs.df["text"].str.len()).groupby(["value", "pole"])["length"].mean().unstack()
    assert (lengths["+"] / lengths["-"]).between(0.85, 1.2).all(), lengths
    assert "circle, groups, opposites" in left_out(theory)
    assert all(one.words and one.definition for one in theory.values)
