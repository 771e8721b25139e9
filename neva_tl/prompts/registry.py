"""Registry of the names and formats that `prompts.load` accepts; a new reader is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.names import did_you_mean, spelling
from neva_tl.core.theories import TheorySpec, ValueTheory, find_theory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.readers import own, pairs, persona, valuebench, valueeval

#: Formats, written `NAME:PATH`.
READERS: dict[str, Callable[[str, ValueTheory | None], ContrastSet]] = {
    "pairs": pairs.read,
    "persona": persona.read,
    "valueeval": valueeval.read,
    "valuebench": valuebench.read,
}


def _demo() -> ContrastSet:
    # a lazy import: the demo world is a layer above prompts
    from neva_tl.demo import contrast_rows

    return ContrastSet(contrast_rows(), "demo")


def _schwartz() -> ContrastSet:
    from neva_tl.prompts.schwartz import contrast_rows

    return ContrastSet.from_rows(contrast_rows(), "schwartz")


def _moral_foundations() -> ContrastSet:
    from neva_tl.prompts.moral_foundations import contrast_rows

    return ContrastSet.from_rows(contrast_rows(), "moral-foundations")


#: Built-in sets, written by their name alone.
BUILT_IN: dict[str, Callable[[], ContrastSet]] = {
    "demo": _demo,
    "schwartz": _schwartz,
    "moral-foundations": _moral_foundations,
}


def spec_forms() -> str:
    """List all accepted forms of a spec, for help texts and errors."""
    formats = ", ".join(f"{name}:PATH" for name in READERS)
    return f"{', '.join(BUILT_IN)}, {formats}, or a path ending in {', '.join(own.SUFFIXES)}"


@check_arguments
def load(
    spec: str | Path | pd.DataFrame | ContrastSet, *, per_value: int | None = None, theory: TheorySpec | None = None
) -> ContrastSet:
    """Load contrastive prompts.

    Args:
        spec: `"demo"`, `"schwartz"`, `"moral-foundations"`, `"persona:DIR"`, `"valueeval:DIR"`, `"valuebench:FILE"`,
            `"pairs:FILE.csv"`, or the path of a .csv, .jsonl or .parquet file in our own schema, or a table of it; a
            ContrastSet passes through.
        per_value: Largest number of pairs (unpaired: rows per pole) of each value; see `ContrastSet.cap`. None keeps all.
        theory: Theory of the values, or the name or the file of one; None takes the one that the names imply. With
            `"schwartz"` or `"schwartz20"`, `valueeval:` reads ten or twenty values, and `persona:` maps traits to the ten
            (without a theory, each trait is a concept of its own).

    Raises:
        InputError: The spec is unknown, a file is missing or empty, or its content is not usable.

    Example:
        >>> nv.prompts.load("demo", per_value=20)
        ContrastSet(demo: 400 texts, 10 values, paired)
        >>> bonuses = [f"A bonus of {amount} dollars?" for amount in range(12)]
        >>> table = pd.DataFrame({"prompt": bonuses, "plus": "Save it.", "minus": "Spend it.", "value": "thrift"})
        >>> table.to_csv("thrift.csv", index=False)
        >>> nv.prompts.load("thrift.csv")
        ContrastSet(thrift.csv: 24 texts, 1 values, paired)
    """
    resolved = None if theory is None else find_theory(theory)
    if isinstance(spec, pd.DataFrame):
        spec = ContrastSet(spec, "table") if resolved is None else ContrastSet(spec, "table", theory=resolved)
    prompts = spec if isinstance(spec, ContrastSet) else _load(str(spec), resolved)
    if resolved is not None and prompts.theory != resolved:
        prompts = prompts.with_theory(resolved)
    return prompts if per_value is None else prompts.cap(per_value)


def _load(spec: str, theory: ValueTheory | None) -> ContrastSet:
    if built_in := spelling(spec, BUILT_IN):
        return BUILT_IN[built_in]()
    scheme, colon, rest = spec.partition(":")
    if colon and scheme in READERS:
        if not rest:
            raise InputError(f"{spec!r} names no path: write {scheme}:PATH")
        return READERS[scheme](rest, theory)
    if Path(spec).suffix in own.SUFFIXES:
        return own.read(spec, theory)
    hint = did_you_mean(spec, [*BUILT_IN, *READERS])
    raise InputError(f"unknown prompts {spec!r}: {hint}give {spec_forms()}")
