"""Pair CSV, the format of published value-vector work: `question_1` expresses the value, `question_2` does not.

Optional columns: `value` (else the file's name is the value, as in `benevolence.csv`) and `topic` (the cluster; else
each pair is its own).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import existing_file, read_table

PLUS, MINUS = "question_1", "question_2"


def read(path: str | Path) -> ContrastSet:
    """Read pairs; every line gives one `+` and one `-` text of the same cluster. Repeated lines are dropped and counted.

    Raises:
        InputError: no value is named anywhere, a side is empty, or the set is not usable; names file and line.
    """
    file = existing_file(path, f"a CSV of pairs (columns {PLUS}, {MINUS})")
    named = file.stem.lower().replace("_", "-").replace(" ", "-")
    pairs: dict[str, list[dict[str, Any]]] = {}
    repeated = 0
    for line, fields in read_table(file, (PLUS, MINUS)):
        stated = fields.get("value", "").strip().lower()
        if not stated and named not in VALUES:
            raise InputError(
                f"{file}, line {line}: no value named: add a column 'value' or name the file after it (power.csv)"
            )
        value = stated or named
        # The pair's own texts name it, so that splits and caps do not depend on the order of lines.
        identity = hash_key(f"{value}\n{fields[PLUS]}\n{fields[MINUS]}")[:12]
        topic = fields.get("topic", "").strip() or identity
        if identity in pairs:
            repeated += 1
            continue
        pairs[identity] = [
            {
                "value": value,
                "pair_id": f"{value}/{identity}",
                "pole": pole,
                "text": fields[column].strip(),
                "cluster": f"{value}/{topic}",
                "source": "pairs",
                "line": line,
            }
            for pole, column in (("+", PLUS), ("-", MINUS))
        ]
    note = f"{repeated} repeated pairs dropped." if repeated else ""
    return ContrastSet.from_rows([row for pair in pairs.values() for row in pair], str(file), note=note)
