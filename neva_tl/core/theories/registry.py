"""Built-in theories, and the theory of a set of names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories.moral_foundations import MORAL_FOUNDATIONS
from neva_tl.core.theories.schwartz import SCHWARTZ
from neva_tl.core.theories.schwartz20 import SCHWARTZ20
from neva_tl.core.theories.theory import BUILT_IN, IMPLIED, ValueTheory, check_name

#: Anything that names a theory: the theory, its JSON data, a built-in name, or a file.
TheorySpec = ValueTheory | Mapping[str, Any] | str | Path

#: Share of common letters from which a name counts as a misspelling; one letter of a word of eight differs.
_ALMOST = 0.87
#: Built-in theories by name; names of values are looked up in this order.
THEORIES = BUILT_IN
THEORIES.update({one.name: one for one in (SCHWARTZ, SCHWARTZ20, MORAL_FOUNDATIONS)})


def find_theory(spec: TheorySpec) -> ValueTheory:
    """Return a theory by name, file or data.

    Args:
        spec: Name of a built-in theory, path of a .yaml, .yml or .json file, JSON data, or a theory.

    Raises:
        InputError: Unknown name, missing file, or data without a theory.

    Example:
        >>> nv.theories.find_theory("moral-foundations").names
        ('care', 'fairness', 'loyalty', 'authority', 'sanctity', 'liberty')
        >>> len(nv.theories.find_theory("schwartz20"))
        20
    """
    if isinstance(spec, ValueTheory):
        return spec
    if isinstance(spec, Mapping):
        return ValueTheory.from_json(spec)
    return ValueTheory.load(spec)


def theory_of(names: Iterable[object]) -> ValueTheory:
    """Return the theory that a set of names implies.

    This is the first built-in theory that has all of the names (Schwartz's ten first), else a theory of the names alone, in
    their order.

    Args:
        names: Names of values.

    Raises:
        InputError: There are no names, or a name cannot be one of a value.

    Example:
        >>> nv.theories.theory_of(["power", "security"]).name
        'schwartz'
        >>> nv.theories.theory_of(["honesty", "thrift"]).names
        ('honesty', 'thrift')
    """
    distinct = [check_name(name) for name in dict.fromkeys(names)]
    for theory in THEORIES.values():
        if distinct and all(name in theory for name in distinct):
            return theory
    return ValueTheory.from_names(distinct)


def resolve_theory(theory: TheorySpec | None, names: Iterable[object]) -> ValueTheory:
    """Return a theory that has all of the names.

    Args:
        theory: The theory; None and `IMPLIED` take the one that the names imply.
        names: Names of values.

    Raises:
        InputError: The theory lacks one of the names.

    Example:
        >>> nv.theories.resolve_theory(None, ["thrift"]).names
        ('thrift',)
        >>> nv.theories.resolve_theory("schwartz", ["power"]).name
        'schwartz'
    """
    names = list(names)
    if theory is None or theory is IMPLIED:
        return theory_of(names)
    resolved = find_theory(theory)
    resolved.in_order(names)
    return resolved


def in_order(names: Iterable[object], theory: TheorySpec | None = None) -> tuple[str, ...]:
    """Sort distinct names by their theory: along the circle for Schwartz's values, as given for names alone.

    Args:
        names: Names of values; repeated ones count once.
        theory: The theory; None takes the one that the names imply.

    Raises:
        InputError: The theory lacks one of the names.

    Example:
        >>> nv.theories.in_order(["power", "hedonism"])
        ('hedonism', 'power')
        >>> nv.theories.in_order(["thrift", "honesty"])
        ('thrift', 'honesty')
    """
    names = list(names)
    return resolve_theory(theory, names).in_order(names) if names else ()


def theory_record(theory: ValueTheory, names: Iterable[object]) -> dict[str, Any]:
    """Return an artefact's record of its theory, under the key `theory`; empty where the names imply it.

    Statistics, neurons and runs of Schwartz's values are thus stored as before.

    Args:
        theory: The theory.
        names: Names of values that the artefact stores anyway.

    Example:
        >>> nv.theories.theory_record(nv.theories.SCHWARTZ, ["power"])
        {}
        >>> theory = nv.ValueTheory("mine", (nv.theories.Value("thrift", "Spending little."),))
        >>> nv.theories.theory_record(theory, ["thrift"])["theory"]["name"]
        'mine'
    """
    names = list(names)
    return {} if not names or theory == theory_of(names) else {"theory": theory.to_json()}


def recorded_theory(record: Mapping[str, Any], names: Iterable[object]) -> ValueTheory:
    """Return the theory of an artefact.

    Args:
        record: Its metadata or settings, with `theory` if the names do not imply it.
        names: Names of values that the artefact stores.

    Example:
        >>> nv.theories.recorded_theory({}, ["power", "security"]).name
        'schwartz'
    """
    return resolve_theory(record.get("theory"), names)


def check_spelling(name: str) -> None:
    """Refuse a name that is probably a misspelt value of Schwartz's ten.

    Args:
        name: A name without a theory that has it.

    Raises:
        InputError: The name differs from one of the ten by a few letters, capitals or spaces.

    Example:
        >>> nv.theories.check_spelling("thrift")  # its own name: accepted
        >>> nv.theories.check_spelling("benevolense")
        Traceback (most recent call last):
            ...
        neva_tl.core.errors.InputError: unknown value 'benevolense': did you mean 'benevolence'? ...
    """
    if any(name in theory for theory in THEORIES.values()):
        return
    plain = re.sub(r"[\s_-]+", "-", name.casefold())
    close = next((one for one in SCHWARTZ.names if _misspelt(plain, one)), None)
    if close is not None:
        raise InputError(
            f"unknown value {name!r}: did you mean {close!r}? Schwartz's ten values are {', '.join(SCHWARTZ.names)}; a "
            "concept of its own with this name needs a theory that has it"
        )


def _misspelt(plain: str, name: str) -> bool:
    if plain == name:
        return True
    return abs(len(plain) - len(name)) <= 1 and SequenceMatcher(None, plain, name).ratio() >= _ALMOST


#: Part of a theory -> the measures and pictures that need it, and the test for it.
_NEEDS: dict[str, tuple[str, Callable[[ValueTheory], bool]]] = {
    "circle": ("circle test and circle plots", lambda theory: theory.has_circle and len(theory) > 2),
    "groups": ("NGL", lambda theory: theory.has_groups),
    "opposites": ("opposed pairs", lambda theory: theory.has_opposites),
}


def left_out(theory: ValueTheory) -> str:
    """Return one line that names the parts a theory lacks and the measures left out for them; empty if it lacks nothing.

    Args:
        theory: The theory.

    Example:
        >>> nv.theories.left_out(nv.theories.SCHWARTZ)
        ''
        >>> line = nv.theories.left_out(nv.ValueTheory.from_names(["honesty", "thrift"]))
        >>> "circle" in line
        True
    """
    if len(theory) == 1:
        return f"{theory.names[0]} is the only concept: nothing to leak to, so no leakage, NLR, NGL and circle test"
    missing = {lack: measures for lack, (measures, present) in _NEEDS.items() if not present(theory)}
    if not missing:
        return ""
    return f"the theory {theory.name} has no {', '.join(missing)}: left out are {', '.join(missing.values())}"
