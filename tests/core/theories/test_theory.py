"""A theory as data: what it says, what it lacks, reading and writing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core.errors import InputError
from neva_tl.core.theories import MORAL_FOUNDATIONS, SCHWARTZ, SCHWARTZ20, THEORIES, Value, ValueTheory, find_theory
from neva_tl.core.theories.theory import check_name

HOUSEHOLD = """
name: household
values:
  thrift:
    definition: Spending little and wasting nothing.
    angle: 0
    groups: [sober]
    opposites: [splendour]
    words: [save, thrifty]
  order: {angle: 90, groups: [sober]}
  splendour: {angle: 180, groups: [bright], opposites: [thrift], colour: "#aa3300"}
  welcome: {angle: 270, groups: bright}
"""


@pytest.fixture
def household(tmp_path: Path) -> ValueTheory:
    (tmp_path / "household.yaml").write_text(HOUSEHOLD)
    return ValueTheory.load(tmp_path / "household.yaml")


def test_a_file_says_all_that_the_theory_says(household: ValueTheory) -> None:
    assert household.name == "household"
    assert household.names == ("thrift", "order", "splendour", "welcome")
    assert household.has_circle and household.has_groups and household.has_opposites and not household.has_wedge
    assert household.distances().tolist() == [[0, 90, 180, 90], [90, 0, 90, 180], [180, 90, 0, 90], [90, 180, 90, 0]]
    assert household.neighbours("thrift") == ("welcome", "order")
    assert household.groups == {"sober": ("thrift", "order"), "bright": ("splendour", "welcome")}
    assert household.same_group("thrift", "order") and not household.same_group("order", "welcome")
    assert household.opposed("splendour", "thrift") and not household.opposed("order", "welcome")
    assert household.value("thrift").words == ("save", "thrifty") and household.value("splendour").colour == "#aa3300"
    assert len({one.colour for one in household.values}) == 4


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
@pytest.mark.parametrize("theory", [*THEORIES.values(), ValueTheory.from_names(["b", "a é"])], ids=lambda t: t.name)
def test_every_theory_survives_its_file(theory: ValueTheory, suffix: str, tmp_path: Path) -> None:
    assert find_theory(theory.save(tmp_path / f"x{suffix}")) == theory
    assert ValueTheory.from_json(theory.to_json()) == theory


def test_names_alone_have_no_structure() -> None:
    theory = ValueTheory.from_names(["honesty", "sycophancy", "honesty"])
    assert theory.names == ("honesty", "sycophancy")
    assert not (theory.has_circle or theory.has_groups or theory.has_opposites or theory.groups)
    assert theory.value("honesty").meaning == "honesty."
    for call in (
        theory.distances,
        lambda: theory.neighbours("honesty"),
        lambda: theory.distance("honesty", "sycophancy"),
    ):
        with pytest.raises(InputError, match="has no circle"):
            call()


@pytest.mark.parametrize(
    ("typed", "meant"), [("benevolance", "benevolence"), ("Self Directon", "self-direction"), ("POWR", "power")]
)
def test_a_misspelt_name_is_corrected_in_the_message(typed: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {meant!r}\\?"):
        SCHWARTZ.value(typed)


@pytest.mark.parametrize(
    ("typed", "meant"), [("Self Direction", "self-direction"), ("self_direction", "self-direction")]
)
def test_case_spaces_and_hyphens_of_a_name_do_not_matter(typed: str, meant: str) -> None:
    assert SCHWARTZ.value(typed).name == meant and SCHWARTZ.in_order([typed, "POWER"]) == (meant, "power")
    own = ValueTheory.from_names(["Power", "thrift"])
    assert own.in_order(["power", "THRIFT"]) == ("Power", "thrift")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "a theory is a mapping"),
        ({"name": "x"}, "a theory is a mapping with name and values"),
        ({"name": "x", "values": []}, "has no values"),
        ({"name": "x", "values": "ab"}, "a list of values is expected"),
        ({"name": "x", "values": [3]}, "a value is 3"),
        ({"name": "x", "values": ["a"], "angel": 1}, "unknown field 'angel'"),
        ({"name": "x", "values": [{"name": "a", "angel": 1}]}, "unknown field 'angel' of a"),
        ({"name": "x", "values": ["a", "A"]}, "must differ in letters"),
        ({"name": "x", "values": [{"name": "a", "angle": "north"}]}, "the angle of a is 'north'"),
        ({"name": "x", "values": [{"name": "a", "angle": 1}, "b"]}, "a has an angle and b has none"),
        ({"name": "x", "values": [{"name": "a", "opposites": ["c"]}, "b"]}, "a opposes 'c'"),
        ({"name": "x", "values": [{"name": "a", "colour": "red"}]}, "write it as #rrggbb"),
        ({"name": "x", "values": [{"name": "a", "words": [1]}]}, "a list of texts is expected"),
        ({"name": "x", "values": [{"name": "a", "definition": 3}]}, "the definition of a is 3"),
        ({"name": 3, "values": ["a"]}, "the name of a value theory is 3"),
        ({"name": "x", "values": {"a": 3}}, "a definition or a mapping is expected"),
    ],
)
def test_data_that_is_no_theory_is_refused_in_one_line(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ValueTheory.from_json(data, "mine.yaml")
    assert "\n" not in str(caught.value) and "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("content", ["a: [", "\x00", "- 1", "!!python/object/apply:os.system ['true']"])
def test_a_file_that_is_no_theory_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    for suffix in (".yaml", ".json"):
        (tmp_path / f"x{suffix}").write_text(content)
        with pytest.raises(InputError) as caught:
            find_theory(tmp_path / f"x{suffix}")
        assert "\n" not in str(caught.value)


def test_unknown_theories_are_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schwartz, schwartz20, moral-foundations"):
        find_theory("schwarz")
    with pytest.raises(InputError, match="does not exist"):
        find_theory(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"\.json, \.yaml or \.yml"):
        SCHWARTZ.save(tmp_path / "x.txt")


@pytest.mark.parametrize("name", ["", " a", "a/b", "a\\b", "..", "a\nb", "x" * 81, 3, None, "a:b"])
def test_names_that_files_cannot_carry_are_refused(name: object) -> None:
    with pytest.raises(InputError, match="the name of a value is"):
        check_name(name)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1000, 1000), min_size=3, max_size=8))
def test_distances_are_angles_between_unit_vectors(angles: list[float]) -> None:
    theory = ValueTheory("t", tuple(Value(f"v{i}", angle=a) for i, a in enumerate(angles)))
    points = np.exp(1j * np.deg2rad(angles))
    expected = np.rad2deg(np.abs(np.angle(points[:, None] / points[None, :])))
    assert np.allclose(theory.distances(), expected, atol=1e-6)


def test_a_subset_keeps_order_and_drops_opposites_outside() -> None:
    part = SCHWARTZ.subset(["power", "stimulation"])
    assert part.names == ("stimulation", "power") and not part.has_opposites
    assert SCHWARTZ.subset(SCHWARTZ.names) is SCHWARTZ


def test_built_in_theories_are_complete() -> None:
    assert [len(theory) for theory in (SCHWARTZ, SCHWARTZ20, MORAL_FOUNDATIONS)] == [10, 20, 6]
    for theory in THEORIES.values():
        assert theory.has_groups and all(one.definition.endswith(".") for one in theory.values)
        assert len({one.colour for one in theory.values}) == len(theory)
    assert SCHWARTZ20.has_circle and not MORAL_FOUNDATIONS.has_circle and not MORAL_FOUNDATIONS.has_opposites
    for theory in (SCHWARTZ20, MORAL_FOUNDATIONS):
        assert all(len(set(one.words)) == len(one.words) >= 12 for one in theory.values)
