"""Files of one prompt with two answers: the simplest form of own pairs, and that of preference data.

Columns (.csv) or keys (.jsonl): `prompt`, and `plus` with `minus`, or `chosen` with `rejected` as preference data has it.
Optional: `value` (default: the name of the file, as in `thrift.csv`) and `topic` (the cluster; default: each pair is a cluster).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import dropped, existing_file, read_jsonl, read_table

PROMPT = "prompt"
#: Names of the two answers: expressing the value, opposing or withholding it.
ANSWERS: tuple[tuple[str, str], ...] = (("plus", "minus"), ("chosen", "rejected"))


def answer_columns(names: Mapping[str, Any] | list[str]) -> tuple[str, str] | None:
    """Return the names of the two answer columns; None where the table is not of this form.

    Args:
        names: Names of the columns.
    """
    if PROMPT not in names:
        return None
    return next((pair for pair in ANSWERS if all(name in names for name in pair)), None)


def header(path: Path) -> list[str]:
    """Return the columns of a .csv file or the keys of the first line of a .jsonl file; empty where it has none.

    Args:
        path: The file.
    """
    try:
        rows: Iterator[tuple[int, Mapping[str, Any]]]
        rows = read_table(path, ()) if path.suffix == ".csv" else read_jsonl(path, ())
        return list(next(rows)[1])
    except (InputError, StopIteration):
        return []


def read(path: str | Path, theory: ValueTheory | None = None) -> ContrastSet:
    """Read one prompt and two answers per line; each line gives one pair.

    Leaves out repeated lines; the note counts them.

    Args:
        path: File with the suffix .csv or .jsonl.
        theory: Theory of the values; None takes the one that their names imply.

    Raises:
        InputError: A column is missing, a text is empty or no text, or the set is not usable; names file and line.
    """
    file = existing_file(path, "a table of pairs (columns prompt, plus, minus)")
    columns = answer_columns(header(file))
    if columns is None:
        raise InputError(f"{file}: pairs need the columns prompt, plus and minus (or prompt, chosen and rejected)")
    required = (PROMPT, *columns)
    rows: Iterator[tuple[int, Mapping[str, Any]]]
    rows = read_table(file, required) if file.suffix == ".csv" else read_jsonl(file, required)
    default = file.stem.lower().replace("_", "-").replace(" ", "-")
    pairs: dict[str, list[dict[str, Any]]] = {}
    repeated = 0
    for line, fields in rows:
        prompt, plus, minus = (_text(fields[name], name, f"{file}, line {line}") for name in required)
        named = str(fields.get("value") or "").strip().lower() or default
        # the id is a hash of the texts, so that splits do not depend on the order of lines
        pair_hash = hash_key(f"{named}\n{prompt}\n{plus}\n{minus}")[:12]
        if pair_hash in pairs:
            repeated += 1
            continue
        topic = str(fields.get("topic") or "").strip() or pair_hash
        pairs[pair_hash] = [
            {
                "value": named,
                "pair_id": f"{named}/{pair_hash}",
                "pole": pole,
                "text": f"{prompt} {answer}",
                "answer_start": len(prompt) + 1,
                "answer_end": len(prompt) + 1 + len(answer),
                "cluster": f"{named}/{topic}",
                "source": "answers",
                "line": line,
            }
            for pole, answer in (("+", plus), ("-", minus))
        ]
    note = dropped(repeated, len(pairs) + repeated, "pairs", "repeated ones")
    return ContrastSet.from_rows([row for pair in pairs.values() for row in pair], str(file), note=note, theory=theory)


def _text(cell: Any, name: str, where: str) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise InputError(f"{where}: {name} is {cell!r:.60}: a text is expected")
    return cell.strip()
