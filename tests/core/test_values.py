"""The theory as data: an independent statement of the circle, and its algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva_tl.core import values
from neva_tl.core.errors import InputError

# Schwartz (1992, 2012), written here once more and by hand.
CIRCLE = [
    "self-direction",
    "stimulation",
    "hedonism",
    "achievement",
    "power",
    "security",
    "conformity",
    "tradition",
    "benevolence",
    "universalism",
]
OPPOSED_GROUPS = {"openness": "conservation", "self-enhancement": "self-transcendence"}

names = st.sampled_from(CIRCLE)


def test_ten_values_in_circle_order() -> None:
    assert list(values.VALUES) == CIRCLE
    assert [values.value(name).angle for name in CIRCLE] == pytest.approx(np.arange(10) * 36.0)


def test_each_value_is_complete() -> None:
    described = [values.value(name) for name in CIRCLE]
    assert len({v.definition for v in described}) == len({v.colour for v in described}) == 10
    for v in described:
        assert v.definition.endswith(".") and v.colour.startswith("#") and len(v.colour) == 7


def test_groups_cover_the_circle_and_only_hedonism_has_two() -> None:
    assert sorted(len(group) for group in values.GROUPS.values()) == [2, 3, 3, 3]
    for name in CIRCLE:
        assert len(values.value(name).groups) == (2 if name == "hedonism" else 1)
    for group, members in values.GROUPS.items():
        places = sorted(CIRCLE.index(member) for member in members)
        # A group is one arc: consecutive places, where the circle closes after universalism.
        gaps = [(b - a) % 10 for a, b in zip(places, places[1:] + places[:1], strict=True)]
        assert sorted(gaps)[:-1] == [1] * (len(places) - 1), group


def test_opposites_lie_in_opposed_groups() -> None:
    for ours, theirs in OPPOSED_GROUPS.items():
        for name in values.GROUPS[ours]:
            if name == "hedonism":
                continue
            (opposite,) = values.value(name).opposites
            # Achievement faces benevolence's neighbour across the circle: at most one place off the opposed arc.
            near = {opposite, *values.SCHWARTZ.neighbours(opposite)}
            assert near & set(values.GROUPS[theirs]), (name, opposite)


@settings(max_examples=50, deadline=None)
@given(names, names, names)
def test_distance_is_a_metric(a: str, b: str, c: str) -> None:
    d = values.circular_distance
    assert d(a, b) == d(b, a)
    assert (d(a, b) == 0) == (a == b)
    assert 0 <= d(a, b) <= 180
    assert d(a, c) <= d(a, b) + d(b, c) + 1e-9


@settings(max_examples=50, deadline=None)
@given(names)
def test_neighbours_and_opposites(a: str) -> None:
    for neighbour in values.SCHWARTZ.neighbours(a):
        assert values.circular_distance(a, neighbour) == pytest.approx(36)
        assert a in values.SCHWARTZ.neighbours(neighbour)
    for opposite in values.value(a).opposites:
        assert values.circular_distance(a, opposite) == pytest.approx(180)
        assert a in values.value(opposite).opposites


@settings(max_examples=50, deadline=None)
@given(names, names)
def test_distance_equals_the_angle_between_unit_vectors(a: str, b: str) -> None:
    def point(name: str) -> np.ndarray:
        angle = np.deg2rad(values.value(name).angle)
        return np.array([np.cos(angle), np.sin(angle)])

    angle = np.rad2deg(np.arccos(np.clip(point(a) @ point(b), -1, 1)))
    assert values.circular_distance(a, b) == pytest.approx(angle, abs=1e-5)
    assert values.distance_matrix()[CIRCLE.index(a), CIRCLE.index(b)] == pytest.approx(angle, abs=1e-5)


def test_wedge_puts_conformity_and_tradition_on_one_place() -> None:
    wedge = values.distance_matrix(wedge=True)
    c, t = CIRCLE.index("conformity"), CIRCLE.index("tradition")
    assert wedge[c, t] == 0
    assert np.allclose(wedge[c], wedge[t])
    assert np.allclose(wedge, wedge.T) and wedge.max() == pytest.approx(160)
    assert wedge[CIRCLE.index("security"), c] == wedge[t, CIRCLE.index("benevolence")] == pytest.approx(40)


@settings(max_examples=50, deadline=None)
@given(names, names)
def test_same_group(a: str, b: str) -> None:
    assert values.same_group(a, b) == any(a in group and b in group for group in values.GROUPS.values())


@settings(max_examples=50, deadline=None)
@given(st.lists(names))
def test_circle_order(some: list[str]) -> None:
    assert list(values.in_circle_order(some)) == [name for name in CIRCLE if name in some]


@pytest.mark.parametrize(
    "call", [values.value, lambda n: values.circular_distance("power", n), lambda n: values.in_circle_order([n])]
)
def test_unknown_value_is_named_with_the_ten(call: object) -> None:
    with pytest.raises(InputError, match=r"unknown value 'kindness'.*self-direction.*universalism"):
        call("kindness")  # type: ignore[operator]
