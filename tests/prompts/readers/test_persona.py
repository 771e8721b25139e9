"""Persona statements, whole, broken, and the real set where it is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.text_lines import write
from neva_tl import prompts
from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.core.values import VALUES
from neva_tl.prompts.readers import persona


def persona_lines(tag: str, n: int = 6) -> list[str]:
    return [
        json.dumps({"statement": f"{tag} {answer} {i}", "answer_matching_behavior": f" {answer}"})
        for i in range(n)
        for answer in ("Yes", "No")
    ]


def test_persona_maps_traits_and_makes_no_pairs(tmp_path: Path) -> None:
    write(tmp_path / "risk-averse.jsonl", *persona_lines("careful"))
    write(tmp_path / "openness.jsonl", *persona_lines("open"), *persona_lines("shared", 1))
    write(tmp_path / "desire-to-be-more-creative.jsonl", *persona_lines("create"), *persona_lines("shared", 1))
    write(tmp_path / "narcissism.jsonl", "this trait stands for no value and is not read")
    found = prompts.load(f"persona:{tmp_path}", theory="schwartz")
    assert found.values == ("self-direction", "security")
    assert found.df["pair_id"].isna().all() and found.df["answer_start"].isna().all()
    assert found.df["value"].value_counts().to_dict() == {"self-direction": 26, "security": 12}
    assert found.note == (
        "1 of 41 statements left out: we map these traits to no value (narcissism). "
        "2 of 41 statements left out: two traits of one value share them, so each is read once."
    )
    assert "1 of 41 statements left out" in repr(found)
    assert (found.df["pole"] == found.df["text"].str.contains("Yes").map({True: "+", False: "-"})).all()


def test_persona_reads_every_trait_under_its_own_name_without_a_theory(tmp_path: Path) -> None:
    for trait in ("narcissism", "openness", "subscribes-to-Stoicism"):
        write(tmp_path / f"{trait}.jsonl", *persona_lines(trait))
    found = prompts.load(f"persona:{tmp_path}")
    assert found.values == ("narcissism", "openness", "subscribes-to-Stoicism") and len(found) == 36
    own = ValueTheory.from_names(["openness", "narcissism"], "two")
    assert prompts.load(f"persona:{tmp_path}", theory=own).values == ("openness", "narcissism")
    with pytest.raises(InputError, match="of the theory: one of care"):
        prompts.load(f"persona:{tmp_path}", theory="moral-foundations")


def test_persona_drops_statements_on_which_traits_disagree(tmp_path: Path) -> None:
    odd = {"statement": "odd", "answer_matching_behavior": " Yes"}
    write(tmp_path / "openness.jsonl", *persona_lines("open"), json.dumps(odd))
    odd["answer_matching_behavior"] = " No"
    write(tmp_path / "desire-to-be-more-creative.jsonl", *persona_lines("create"), json.dumps(odd))
    found = prompts.load(f"persona:{tmp_path}", theory="schwartz")
    assert "odd" not in set(found.df["text"]) and len(found) == 24
    assert found.note == "2 of 26 statements left out: two traits of one value share them with opposite answers."


def test_persona_says_how_many_statements_of_how_many_traits_it_does_not_read(tmp_path: Path) -> None:
    """Four traits of 1,000 statements, one of them mapped to a value."""
    for trait in ("risk-averse", "narcissism", "machiavellianism", "extraversion"):
        write(tmp_path / f"{trait}.jsonl", *persona_lines(trait, 500), "")
    found = prompts.load(f"persona:{tmp_path}", theory="schwartz")
    assert len(found) == 1000
    assert found.note == (
        "3,000 of 4,000 statements left out: we map these traits to no value (extraversion, machiavellianism, narcissism)."
    )
    assert found.split("train").note == found.cap(10).note == found.note
    assert len(prompts.load(f"persona:{tmp_path}")) == 4000 and prompts.load(f"persona:{tmp_path}").note == ""
    two = prompts.load(f"persona:{tmp_path}", theory=ValueTheory.from_names(["narcissism", "extraversion"]))
    assert two.note == (
        "2,000 of 4,000 statements left out: the theory does not have these traits (machiavellianism, risk-averse)."
    )
    write(tmp_path / "whole" / "risk-averse.jsonl", *persona_lines("risk-averse"))
    assert prompts.load(f"persona:{tmp_path / 'whole'}", theory="schwartz").note == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"statement": "a", "answer_matching_behavior": "maybe"}',
            r"openness\.jsonl, line 13: answer_matching_behavior is 'maybe'",
        ),
        ('{"statement": "a"}', r"openness\.jsonl, line 13: no key 'answer_matching_behavior'"),
        ('{"statement": " ", "answer_matching_behavior": " Yes"}', r"openness\.jsonl, line 13: the text is empty"),
    ],
)  # fmt: skip
def test_persona_broken(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path / "openness.jsonl", *persona_lines("open"), line)
    with pytest.raises(InputError, match=message):
        prompts.load(f"persona:{tmp_path}", theory="schwartz")


def test_persona_on_the_real_set(shared_dir: Path) -> None:
    found = prompts.load(f"persona:{shared_dir / 'data' / 'persona'}", theory="schwartz")
    assert set(found.values) == set(VALUES) - {"hedonism"} == set(persona.TRAITS)
    raw = sum(
        len((shared_dir / "data" / "persona" / f"{trait}.jsonl").read_text().splitlines())
        for traits in persona.TRAITS.values()
        for trait in traits
    )
    counts = [int(sentence.split()[0].replace(",", "")) for sentence in found.note.split(". ")]
    assert len(counts) == 3 and "to no value" in found.note and len(found) == raw - sum(counts[1:])
    files = (shared_dir / "data" / "persona").glob("*.jsonl")
    every = sum(len(file.read_text().splitlines()) for file in files)
    assert counts[0] == every - raw and f"of {every:,} statements" in found.note
    train = found.split("train").df.groupby(["value", "pole"]).size()
    assert train.min() >= 150
    quick = prompts.load(f"persona:{shared_dir / 'data' / 'persona'}", per_value=20, theory="schwartz")
    assert (quick.df.groupby(["value", "pole"]).size() == 20).all()
