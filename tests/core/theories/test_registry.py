"""The theory that names imply, and what artefacts store of it."""

from __future__ import annotations

import pytest

from neva_tl.core.errors import InputError
from neva_tl.core.theories import (
    IMPLIED,
    MORAL_FOUNDATIONS,
    SCHWARTZ,
    SCHWARTZ20,
    ValueTheory,
    check_spelling,
    in_order,
    left_out,
    recorded_theory,
    resolve_theory,
    theory_of,
    theory_record,
)

OWN = ValueTheory.from_names(["power", "thrift"], "mine")


@pytest.mark.parametrize(
    ("names", "theory"),
    [
        (["power"], SCHWARTZ),
        (SCHWARTZ.names, SCHWARTZ),
        (["face", "hedonism"], SCHWARTZ20),
        (["care", "liberty"], MORAL_FOUNDATIONS),
        (["care", "power"], ValueTheory.from_names(["care", "power"])),
    ],
)
def test_names_imply_a_theory(names: list[str], theory: ValueTheory) -> None:
    assert theory_of(names) == theory == resolve_theory(None, names) == resolve_theory(IMPLIED, names)


def test_order_is_the_theorys_or_that_of_the_names() -> None:
    assert in_order(["universalism", "power", "power"]) == ("power", "universalism")
    assert in_order(["zeal", "calm", "zeal"]) == ("zeal", "calm")
    assert in_order(["thrift", "power"], OWN) == ("power", "thrift")
    assert in_order([]) == ()
    with pytest.raises(InputError, match="unknown value 'zeal'"):
        in_order(["zeal"], OWN)


def test_artefacts_store_a_theory_only_where_names_do_not_imply_it() -> None:
    assert theory_record(SCHWARTZ, ["power"]) == {} == theory_record(SCHWARTZ20, ["face"])
    assert theory_record(OWN, ["power"]) == {"theory": OWN.to_json()}
    for theory, names in ((SCHWARTZ, ["power"]), (OWN, ["power"]), (SCHWARTZ20, ["hedonism"])):
        assert recorded_theory(theory_record(theory, names), names) == theory


@pytest.mark.parametrize("name", ["benevolance", "Benevolence", "self direction", "securty"])
def test_misspelt_values_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="did you mean"):
        check_spelling(name)


@pytest.mark.parametrize("name", ["honesty", "insecurity", "nonconformity", "benevolence-caring", "power", "care"])
def test_other_concepts_are_not_taken_for_misspelt_ones(name: str) -> None:
    check_spelling(name)


def test_what_a_theory_lacks_is_told_in_one_line() -> None:
    assert left_out(SCHWARTZ) == ""
    line = left_out(OWN)
    assert "no circle, groups, opposites" in line and "NGL" in line and "\n" not in line
    assert "groups" not in left_out(MORAL_FOUNDATIONS)
    assert "nothing to leak to" in left_out(ValueTheory.from_names(["thrift"]))
