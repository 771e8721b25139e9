"""The tests check types and shapes of the whole package at run time, whichever way a function goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Float, TypeCheckError

from neva_tl.core.names import did_you_mean
from neva_tl.core.statistics.tails import tails_on_curve

if TYPE_CHECKING:
    from nowhere import Unknown

check = jaxtyping.jaxtyped(typechecker=beartype)
Row = Float[np.ndarray, "n"]


@check
def plain(number: int, name: str | None = None) -> str:
    return name or 3 if number else ""


@check
def hidden(thing: Unknown, number: int) -> Unknown:
    return thing


@check
def counted(number: int) -> Iterator[int]:
    yield number


@check
def aliased(left: Row | None, right: list[Row]) -> None: ...


@check
def called(act: Callable[[Row, Row], int]) -> Row:
    return act


def test_types_are_checked_where_no_shape_is_named() -> None:
    assert plain(1, "a") == "a" and list(counted(2)) == [2]
    wrong: list[Callable[[], Any]] = [
        lambda: plain("1"),
        lambda: plain(1, b"a"),
        lambda: plain(1),
        lambda: list(counted("1")),
    ]
    for call in wrong:
        with pytest.raises(TypeCheckError):
            call()
    assert plain.__annotations__["number"] == "int"


def test_a_name_for_type_checkers_alone_leaves_the_others_checked() -> None:
    assert hidden("x", 1) == "x"
    with pytest.raises(TypeCheckError):
        hidden("x", "1")


def test_shapes_are_checked_behind_aliases_and_between_arguments() -> None:
    aliased(np.zeros(2), [np.zeros(2)])
    with pytest.raises(TypeCheckError):
        aliased(np.zeros(2), [np.zeros(3)])
    with pytest.raises(TypeCheckError):
        called(len)


def test_the_package_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        did_you_mean("a", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        tails_on_curve(np.zeros(2, dtype=int), 3.0, 0.0)
