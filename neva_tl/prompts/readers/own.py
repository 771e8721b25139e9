"""Our own schema as .csv, .jsonl or .parquet.

Columns `value`, `pole`, `text`, and optionally the other columns of `ContrastSet`. A .csv or .jsonl file with `prompt` and two
answers instead is read by `answers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.files import DAMAGED, first_line
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts import provenance
from neva_tl.prompts.contrast import COLUMNS, SYSTEM, ContrastSet, rows_hash
from neva_tl.prompts.readers import answers
from neva_tl.prompts.text_files import existing_file, read_jsonl, read_table

REQUIRED = ("value", "pole", "text")
SUFFIXES = (".csv", ".jsonl", ".parquet")
_OFFSETS = ("answer_start", "answer_end")
#: Integers from here on do not fit in 64 bits.
_LARGEST = 2**63


def read(path: str | Path, theory: ValueTheory | None = None) -> ContrastSet:
    """Read prompts in our own schema; empty cells are missing values, unknown columns are ignored.

    Args:
        path: File with the suffix .csv, .jsonl or .parquet.
        theory: Theory of the values; None takes the one that their names imply.

    Provenance and theory of generated prompts are read from their own file (see `provenance`), where it describes these rows.

    Raises:
        InputError: See `ContrastSet`; names the file and the line (row, for parquet).
    """
    file = existing_file(path, "a table of prompts (columns value, pole, text)")
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file}: prompts are read from {', '.join(SUFFIXES)}")
    if file.suffix != ".parquet" and (columns := answers.answer_columns(file)) is not None:
        return answers.read(file, columns, theory)
    source: Iterator[tuple[int, dict[str, Any]]]
    if file.suffix == ".csv":
        source = read_table(file, REQUIRED)
    elif file.suffix == ".jsonl":
        source = read_jsonl(file, REQUIRED)
    else:
        source = _read_parquet(file)
    rows = []
    for line, fields in source:
        row: dict[str, Any] = {
            name: _cell(fields[name], name, f"{file}, line {line}") for name in (*COLUMNS, SYSTEM) if name in fields
        }
        for name in _OFFSETS:
            if row.get(name) is not None:
                row[name] = _offset(row[name], name, f"{file}, line {line}")
        row["line"] = line
        rows.append(row)
    pairs = ContrastSet.from_rows(_without_blank_columns(rows), str(file), theory=theory)
    record, written = provenance.read(file, rows_hash(pairs.df))
    if not record:
        return pairs
    return replace(pairs, provenance=record, theory=pairs.theory if theory or not written else written)


def _read_parquet(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        table = pd.read_parquet(file)
    except (OSError, NotImplementedError, *DAMAGED) as error:
        raise InputError(f"{file} is not a parquet file ({first_line(error)})") from error
    for column in REQUIRED:
        if column not in table.columns:
            raise InputError(f"{file}: no column {column!r}: it has {', '.join(map(str, table.columns))}")
    for line, row in enumerate(table.to_dict("records"), start=1):
        yield line, {str(name): cell for name, cell in row.items()}


def _cell(cell: Any, name: str, where: str) -> Any:
    """Normalise a cell: missing values of all three formats become None; refuse what is no text or number."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, str):
        return cell
    if isinstance(cell, list | tuple | dict | set | bytes | bool | np.bool_ | np.ndarray):
        raise InputError(f"{where}: {name} is {cell!r:.60}: a text is expected, not {type(cell).__name__}")
    if pd.isna(cell):
        return None
    if isinstance(cell, int) and abs(cell) >= _LARGEST:
        raise InputError(f"{where}: {name} is an integer of {len(hex(cell)) * 4 - 8} bits: write it as text")
    return cell if isinstance(cell, int | float) else str(cell)


def _offset(cell: Any, name: str, where: str) -> int:
    try:
        number = float(cell)
        if number != int(number) or abs(number) >= _LARGEST:
            raise ValueError
        return int(number)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {name} is {cell!r:.60}: a whole number of characters is expected") from error


def _without_blank_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop optional columns without any value, so that their defaults (source, cluster, split) apply."""
    filled = {name for row in rows for name, cell in row.items() if cell is not None} | set(REQUIRED)
    return [{name: cell for name, cell in row.items() if name in filled} for row in rows]
