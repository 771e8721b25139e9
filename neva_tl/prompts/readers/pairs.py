"""CSV files of pairs, a format of published value vectors: `question_1` expresses the value, `question_2` does not.

Optional columns: `value` (default: the name of the file, as in `benevolence.csv` or `thrift.csv`) and `topic` (the
cluster; default: each pair is a cluster).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.readers.rows import PairLine, pairs_of, value_of_name
from neva_tl.prompts.text_files import existing_file, read_table

PLUS, MINUS = "question_1", "question_2"


def read(path: str | Path, theory: ValueTheory | None = None) -> ContrastSet:
    """Read pairs: every line gives one `+` and one `-` text of the same cluster.

    Leaves out repeated pairs; the note counts them.

    Args:
        path: CSV file.
        theory: Theory of the values; None takes the one that their names imply.

    Raises:
        InputError: Neither column nor file names a value of the theory, a text is empty, or the set is not usable; names
            file and line.
    """
    file = existing_file(path, f"a CSV of pairs (columns {PLUS}, {MINUS})")
    return pairs_of(_lines(file, theory), file, "pairs", theory)


def _lines(file: Path, theory: ValueTheory | None) -> Iterator[PairLine]:
    file_value = value_of_name(file)
    for line, fields in read_table(file, (PLUS, MINUS)):
        row_value = fields.get("value", "").strip().lower()
        if not row_value and theory is not None and file_value not in theory:
            raise InputError(
                f"{file}, line {line}: no value named: add a column 'value' or name the file after it (power.csv)"
            )
        yield PairLine(
            line=line,
            value=row_value or file_value,
            content=(fields[PLUS], fields[MINUS]),
            plus=fields[PLUS].strip(),
            minus=fields[MINUS].strip(),
            topic=fields.get("topic", "").strip(),
        )
