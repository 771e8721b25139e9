"""CSV files of pairs, a format of published value vectors: `question_1` expresses the value, `question_2` does not.

Optional columns: `value` (default: the name of the file, as in `benevolence.csv` or `thrift.csv`) and `topic` (the
cluster; default: each pair is a cluster).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import dropped, existing_file, read_table

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
    file_value = file.stem.lower().replace("_", "-").replace(" ", "-")
    pairs: dict[str, list[dict[str, Any]]] = {}
    repeated = 0
    for line, fields in read_table(file, (PLUS, MINUS)):
        row_value = fields.get("value", "").strip().lower()
        if not row_value and theory is not None and file_value not in theory:
            raise InputError(
                f"{file}, line {line}: no value named: add a column 'value' or name the file after it (power.csv)"
            )
        value = row_value or file_value
        # the id is a hash of the texts, so that splits and caps do not depend on the order of lines
        pair_hash = hash_key(f"{value}\n{fields[PLUS]}\n{fields[MINUS]}")[:12]
        topic = fields.get("topic", "").strip() or pair_hash
        if pair_hash in pairs:
            repeated += 1
            continue
        pairs[pair_hash] = [
            {
                "value": value,
                "pair_id": f"{value}/{pair_hash}",
                "pole": pole,
                "text": fields[column].strip(),
                "cluster": f"{value}/{topic}",
                "source": "pairs",
                "line": line,
            }
            for pole, column in (("+", PLUS), ("-", MINUS))
        ]
    note = dropped(repeated, len(pairs) + repeated, "pairs", "repeated ones")
    return ContrastSet.from_rows([row for pair in pairs.values() for row in pair], str(file), note=note, theory=theory)
