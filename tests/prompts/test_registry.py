"""Built-in sets by name, and the demo world's prompts through the common door."""

from __future__ import annotations

import pandas as pd
import pytest

from neva_tl import demo, prompts
from neva_tl.core.values import VALUES
from neva_tl.prompts import ContrastSet, registry


@pytest.mark.parametrize("name", ["demo", "schwartz"])
def test_built_in_sets_cover_the_theory_with_pairs(name: str) -> None:
    found = prompts.load(name)
    assert found.values == VALUES and found.paired and found.name == name
    assert prompts.load(name).hash == found.hash
    for split in ("train", "validation", "test"):
        assert found.split(split).values == VALUES
    quick = prompts.load(name, per_value=10)
    assert (quick.df.groupby(["value", "pole"]).size() == 10).all()
    assert all(example.answer for example in quick.examples())


def test_a_set_passes_through() -> None:
    found = prompts.load("schwartz", per_value=4)
    assert prompts.load(found) is found
    assert isinstance(prompts.load(found, per_value=2), ContrastSet)


def test_help_names_every_spec() -> None:
    for name in (*registry.BUILT_IN, *registry.READERS):
        assert name in registry.spec_forms()


def test_demo_questions_prompts_and_words() -> None:
    questions = prompts.load_questions("demo")
    assert {"value", "against", "text", "topic", "split"} <= set(questions.columns)
    assert (questions["value"] != questions["against"]).all() and set(questions["value"]) == set(VALUES)
    table = prompts.open_prompts("demo")
    assert list(table.columns) == ["text", "topic", "split"]
    test = prompts.open_prompts("demo", "test")
    pd.testing.assert_frame_equal(test, table[table["split"] == "test"].reset_index(drop=True))
    halves = [set(prompts.words("power", half, spec="demo")) for half in ("A", "B")]
    assert halves[0] and halves[1] and not halves[0] & halves[1]


def test_gate_texts_are_training_texts_of_every_value_beside_neutral_ones() -> None:
    relevant, neutral = prompts.gate_texts("schwartz")
    train = prompts.load("schwartz").split("train")
    assert relevant == train.examples() and tuple(neutral) == prompts.neutral_texts("validation")
    assert not set(neutral) & set(prompts.neutral_texts("test"))
    few = prompts.load("demo", per_value=12)
    relevant, neutral = prompts.gate_texts(few)
    pairs, beginnings = few.split("train").examples(), demo.value_beginnings("train")
    assert relevant == [*pairs, *(prompts.Example("", text) for text in beginnings)]
    assert neutral == demo.neutral_texts("train", 600)
