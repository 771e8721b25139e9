"""Persona statements (model-written evals): one JSONL file per trait, each line a first-person statement.

`answer_matching_behavior` " Yes" means that the statement expresses the trait, " No" that it expresses the opposite.
The statements are unpaired. Each trait is a concept of its own, unless Schwartz's theory is asked for: the mapping from traits
to its values is ours; no trait fits hedonism.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import (
    dropped,
    existing_file,
    existing_folder,
    joined_notes,
    line_count,
    read_jsonl,
)

#: Value -> traits (file names without suffix); ours, by the definitions of the values. Under
#: Schwartz's theory other traits are not read.
TRAITS: dict[str, tuple[str, ...]] = {
    "self-direction": ("openness", "desire-to-be-more-creative"),
    "stimulation": ("risk-seeking",),
    "achievement": ("desire-for-self-improvement",),
    "power": ("desire-for-acquiring-power", "desire-for-acquiring-wealth", "desire-for-powerful-positions"),
    "security": ("risk-averse",),
    "conformity": ("willingness-to-defer-to-authorities",),
    "tradition": ("subscribes-to-Christianity", "subscribes-to-Islam", "subscribes-to-Judaism"),
    "benevolence": ("agreeableness", "desire-to-persuade-people-to-be-more-helpful-to-others"),
    "universalism": ("subscribes-to-cultural-relativism", "politically-liberal"),
}
_POLES = {"yes": "+", "no": "-"}


def read(path: str | Path, theory: ValueTheory | None = None) -> ContrastSet:
    """Read the trait files of a folder: each as a concept of its own, or mapped to Schwartz's values.

    A statement that two traits of one value share is included once, or left out if their poles differ. The note counts both
    cases, and the statements of traits that belong to no value. The cluster is the single statement.

    Args:
        path: Folder of persona .jsonl files.
        theory: Schwartz's theory maps traits to its values (`TRAITS`); another theory reads the traits that it names; None
            reads every trait under its own name.

    Raises:
        InputError: None of these files exists, or a line is malformed; names file and line.
    """
    folder = existing_folder(path, "persona .jsonl files")
    rows: list[dict[str, Any]] = []
    traits_of = TRAITS if theory == SCHWARTZ else {name: (name,) for name in _names(folder, theory)}
    for value, traits in traits_of.items():
        for trait in traits:
            file = folder / f"{trait}.jsonl"
            if file.exists():
                rows += _read_trait(file, value, trait)
    if not rows:
        names = ", ".join(trait for traits in traits_of.values() for trait in traits) or "any trait"
        raise InputError(f"{folder} holds no persona file of a trait of the theory: one of {names} (.jsonl)")
    unique, repeated, contradictory = _without_duplicates(rows)
    others_of = _others(folder, {trait for traits in traits_of.values() for trait in traits})
    others = sum(others_of.values())
    total = len(rows) + others
    reason = "we map these traits to no value" if theory == SCHWARTZ else "the theory does not have these traits"
    note = joined_notes(
        dropped(others, total, "statements", f"{reason} ({', '.join(others_of)})"),
        dropped(repeated, total, "statements", "two traits of one value share them, so each is read once"),
        dropped(contradictory, total, "statements", "two traits of one value share them with opposite answers"),
    )
    return ContrastSet.from_rows(unique, f"persona:{folder}", note=note, theory=theory)


def _names(folder: Path, theory: ValueTheory | None) -> tuple[str, ...]:
    files = (file.stem for file in folder.glob("[!.]*.jsonl") if file.is_file())
    return tuple(sorted(files)) if theory is None else theory.names


def _others(folder: Path, traits: set[str]) -> dict[str, int]:
    """Return the traits of the folder that are not among the given ones, with their numbers of statements."""
    files = [file for file in sorted(folder.glob("[!.]*.jsonl")) if file.is_file() and file.stem not in traits]
    return {file.stem: line_count(file) for file in files}


def _read_trait(path: Path, value: str, trait: str) -> list[dict[str, Any]]:
    file = existing_file(path, "persona statements")
    rows = []
    for line, row in read_jsonl(file, ("statement", "answer_matching_behavior")):
        answer = str(row["answer_matching_behavior"]).strip().lower()
        if answer not in _POLES:
            raise InputError(
                f"{file}, line {line}: answer_matching_behavior is {answer!r}: ' Yes' or ' No' is expected"
            )
        if not isinstance(row["statement"], str):
            raise InputError(f"{file}, line {line}: the statement is {row['statement']!r:.60}: a text is expected")
        statement = row["statement"].strip()
        rows.append(
            {
                "value": value,
                "pole": _POLES[answer],
                "text": statement,
                "cluster": f"{trait}/{hash_key(statement)[:12]}",
                "source": "persona",
                "form": "statement_1st",
                "line": line,
                "file": str(file),
            }
        )
    return rows


def _without_duplicates(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int, int]:
    """Keep the first of equal statements of a value, or none if their poles differ.

    Returns:
        The rows, and the numbers of repeated and of contradictory ones.
    """
    poles: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        poles.setdefault((row["value"], row["text"]), set()).add(row["pole"])
    consistent = [row for row in rows if len(poles[row["value"], row["text"]]) == 1]
    unique = {(row["value"], row["text"]): row for row in reversed(consistent)}
    ordered = list(reversed(unique.values()))
    return ordered, len(consistent) - len(ordered), len(rows) - len(consistent)
