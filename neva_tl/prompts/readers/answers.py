"""Files of one prompt with two answers: the simplest form of own pairs, and that of preference data.

Columns (.csv) or keys (.jsonl): `prompt`, and `plus` with `minus`, or `chosen` with `rejected` as preference data has it.
Optional: `value` (default: the name of the file, as in `thrift.csv`) and `topic` (the cluster; default: each pair is a cluster).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.readers.rows import PairLine, pairs_of, value_of_name
from neva_tl.prompts.text_files import read_jsonl, read_table

PROMPT = "prompt"
#: Names of the two answers: expressing the value, opposing or withholding it.
ANSWERS: tuple[tuple[str, str], ...] = (("plus", "minus"), ("chosen", "rejected"))


def answer_columns(file: Path) -> tuple[str, str] | None:
    """Return the names of a file's two answer columns (keys of its first line); None where it is not of this form.

    Args:
        file: A .csv or .jsonl file.
    """
    try:
        names = next(_rows(file, ()))[1]
    except (InputError, StopIteration):
        return None
    if PROMPT not in names:
        return None
    return next((pair for pair in ANSWERS if all(name in names for name in pair)), None)


def _rows(file: Path, required: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return read_table(file, required) if file.suffix == ".csv" else read_jsonl(file, required)


def read(file: Path, columns: tuple[str, str], theory: ValueTheory | None = None) -> ContrastSet:
    """Read one prompt and two answers per line; each line gives one pair.

    Leaves out repeated lines; the note counts them.

    Args:
        file: File with the suffix .csv or .jsonl.
        columns: Names of the two answer columns (see `answer_columns`).
        theory: Theory of the values; None takes the one that their names imply.

    Raises:
        InputError: A line lacks a column, a text is empty or no text, or the set is not usable; names file and line.
    """
    return pairs_of(_lines(file, columns), file, "answers", theory)


def _lines(file: Path, columns: tuple[str, str]) -> Iterator[PairLine]:
    required = (PROMPT, *columns)
    for line, fields in _rows(file, required):
        prompt, plus, minus = (_text(fields[name], name, f"{file}, line {line}") for name in required)
        yield PairLine(
            line=line,
            value=str(fields.get("value") or "").strip().lower() or value_of_name(file),
            content=(prompt, plus, minus),
            plus=plus,
            minus=minus,
            topic=str(fields.get("topic") or "").strip(),
            prompt=prompt,
        )


def _text(cell: Any, name: str, where: str) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise InputError(f"{where}: {name} is {cell!r:.60}: a text is expected")
    return cell.strip()
