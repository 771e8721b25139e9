"""The values to contrast: those of a theory, or one concept by its name and definition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.core.names import spelling
from neva_tl.core.theories import THEORIES, TheorySpec, Value, ValueTheory, check_name, find_theory


@dataclass(frozen=True)
class Concepts:
    """Values of a theory.

    Attributes:
        theory: The theory.
        values: Names of the values to contrast, in the theory's order.
        opposite: The concern that replaces the value in roles against it, in words; "" without one.
    """

    theory: ValueTheory
    values: tuple[str, ...]
    opposite: str = ""

    @property
    def members(self) -> tuple[Value, ...]:
        """The values with their definitions."""
        return tuple(self.theory.value(name) for name in self.values)


def find_concepts(
    spec: TheorySpec, definition: str = "", opposite: str = "", values: tuple[str, ...] | None = None
) -> Concepts:
    """Return the values of a theory, or one concept by its name.

    Args:
        spec: A theory, its file, the name of a built-in theory, or the name of a concept. The name of a value of a built-in
            theory, without a definition, takes the definition from there.
        definition: Meaning of the concept in a sentence.
        opposite: Name or meaning of what opposes the concept.
        values: Names of some of a theory's values; None takes all.

    Raises:
        InputError: A definition or an opposite for a whole theory, `values` for a concept, or an unusable name or theory.
    """
    theory = _theory(spec)
    if theory is None:
        if values is not None:
            raise InputError(f"{spec!r} is one concept: leave out values, or name a theory ({', '.join(THEORIES)})")
        return _concept(check_name(spec), definition.strip(), opposite.strip())
    selected = theory.names if values is None else theory.in_order(values)
    if definition or opposite:
        raise InputError(
            f"definition and opposite describe one concept, not the theory {theory.name}: name the concept, "
            f"as in {theory.names[0]!r}"
        )
    if not selected:
        raise InputError(f"no values were named: name some of {', '.join(theory.names)}")
    return Concepts(theory, selected)


def _theory(spec: TheorySpec) -> ValueTheory | None:
    if not isinstance(spec, str | Path):
        return find_theory(spec)
    if Path(spec).suffix in (".yaml", ".yml", ".json"):
        return find_theory(spec)
    built_in = spelling(str(spec), THEORIES)
    return None if built_in is None else THEORIES[built_in]


def _concept(name: str, definition: str, opposite: str) -> Concepts:
    if not definition:
        for theory in THEORIES.values():
            if match := spelling(name, theory.names):
                return Concepts(theory, (match,), opposite)
    return Concepts(ValueTheory("own", (Value(name, definition),)), (name,), opposite)
