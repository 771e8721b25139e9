"""Order and colours of the values in a figure, from the theory of the table or of the run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, THEORIES, TheorySpec, ValueTheory, find_theory, theory_of
from neva_tl.core.theories.palette import colour_of_name
from neva_tl.plots.palette import code_of_name, replaced
from neva_tl.plots.value_colours import figure_colour

P = ParamSpec("P")
R = TypeVar("R")

#: Columns of tables that name values.
COLUMNS = ("measured", "value", "steered", "token_value", "a", "b")
#: Entries of those columns that name no value: missing, unedited, and the judge's column of affirmation.
NO_VALUE = frozenset({"", "nan", "None", "<NA>", "none", "affirmation"})
_THEORY: ContextVar[ValueTheory | None] = ContextVar("theory", default=None)


@contextmanager
def using_theory(theory: TheorySpec | None) -> Iterator[None]:
    """Draw figures of one theory: its order of values and its colours.

    Args:
        theory: The theory; None leaves the choice to each figure's table.
    """
    token = _THEORY.set(None if theory is None else find_theory(theory))
    try:
        yield
    finally:
        _THEORY.reset(token)


def theory_in(names: Iterable[object]) -> ValueTheory:
    """Return the theory of the names in a figure: the active one if it has them, else the one that they imply.

    Args:
        names: Entries of a table; those that name no value are ignored.
    """
    distinct = [name for name in dict.fromkeys(map(str, names)) if name not in NO_VALUE]
    active = _THEORY.get()
    if active is not None and all(name in active for name in distinct):
        return active
    if not distinct:
        return active or SCHWARTZ
    try:
        return theory_of(distinct)
    except InputError:  # entries that are not names, as in a table of another kind
        return theory_of([name for name in distinct if name in SCHWARTZ] or SCHWARTZ.names)


def drawn_with_theory(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under the theory of the tables that it draws.

    Args:
        draw: The function.
    """

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        names: list[object] = []
        for table in (*args, *kwargs.values()):
            if isinstance(table, pd.DataFrame):
                for column in COLUMNS:
                    if column in table.columns and table[column].dtype.kind not in "iufb":
                        names += table[column].dropna().unique().tolist()
        with using_theory(theory_in(names)):
            return draw(*args, **kwargs)

    return inner


def is_value(name: str) -> bool:
    """Whether a label names a value of the figure's theory, or without one of Schwartz's ten.

    Args:
        name: The label.
    """
    return name in (_THEORY.get() or SCHWARTZ)


def value_colour(name: str) -> str:
    """Return a value's colour: its theory's, or one that depends on the name alone.

    Args:
        name: Name of the value.
    """
    for theory in (_THEORY.get(), *THEORIES.values()):
        if theory is not None and name in theory:
            return replaced(name, figure_colour(theory, name))
    return replaced(name, colour_of_name(name))


def value_code(name: str) -> dict[str, Any]:
    """Return marker and dash of a value as arguments of `Axes.plot`; no two values of a theory share both.

    Args:
        name: Name of the value.
    """
    for theory in (_THEORY.get(), *THEORIES.values()):
        if theory is not None and name in theory:
            return code_of_name(name, theory.names)
    return code_of_name(name, ())


def present_values(names: Iterable[object]) -> list[str]:
    """Return the values that occur in a column, in the order of their theory.

    Args:
        names: Entries of the column.
    """
    entries = list(map(str, names))
    distinct = set(entries)
    return [name for name in theory_in(entries).names if name in distinct]
