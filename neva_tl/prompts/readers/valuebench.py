"""ValueBench: questionnaire items with a value's name and the direction of agreement.

Items whose value has the name of one of Schwartz's ten (PVQ40 and similar questionnaires), or of another theory's values, are
used; all others are dropped and counted. Portrait items have one direction only: the reader contrasts a value without reversed
items with the positive items of the other values (presence against absence) and marks this in the column `source`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, ValueTheory
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import dropped, existing_file, joined_notes, read_table

_POLES = {"1": "+", "-1": "-"}


def read(path: str | Path, theory: ValueTheory | None = None) -> ContrastSet:
    """Read the items of a theory's values; both text and cluster are the item.

    Args:
        path: ValueBench's CSV.
        theory: Theory of the values; None takes Schwartz's ten.

    Raises:
        InputError: No item of the theory's values, or a malformed line; names file and line.
    """
    file = existing_file(path, "ValueBench's CSV (columns questionnaire, item, value, agreement)")
    theory = theory or SCHWARTZ
    items: list[dict[str, Any]] = []
    others = 0
    for line, fields in read_table(file, ("questionnaire", "item", "value", "agreement")):
        agreement = fields["agreement"].strip()
        if agreement not in _POLES:
            raise InputError(f"{file}, line {line}: agreement is {agreement!r}: 1 or -1 is expected")
        value = fields["value"].strip().lower().replace(" ", "-")
        if value not in theory:
            others += 1
            continue
        text = fields["item"].strip()
        items.append(
            {
                "value": value,
                "pole": _POLES[agreement],
                "text": text,
                "cluster": f"{fields['questionnaire'].strip()}/{hash_key(text)[:12]}",
                "source": "valuebench",
                "line": line,
            }
        )
    if not items:
        raise InputError(f"{file}: none of its {others} items has a value of the theory {theory.name} as its value")
    distinct, total = _distinct(items), len(items) + others
    rows, presence = _with_absence(distinct, theory)
    whose = "Schwartz's ten" if theory == SCHWARTZ else f"those of the theory {theory.name}"
    note = joined_notes(
        dropped(others, total, "items", f"their values are not among {whose}"),
        dropped(len(items) - len(distinct), total, "items", "repeated ones"),
        f"No reversed items, so presence against absence: {', '.join(presence)}." if presence else "",
    )
    return ContrastSet.from_rows(rows, f"valuebench:{file}", note=note, theory=theory)


def _distinct(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the first of equal items, which several questionnaires may share."""
    return list({(row["value"], row["text"]): row for row in reversed(items)}.values())[::-1]


def _with_absence(items: list[dict[str, Any]], theory: ValueTheory) -> tuple[list[dict[str, Any]], list[str]]:
    """Add other values' positive items as the `-` pole of values without reversed items, and name those values."""
    rows: list[dict[str, Any]] = []
    presence = []
    for value in theory.names:
        target_items = [row for row in items if row["value"] == value]
        if target_items and all(row["pole"] == "+" for row in target_items):
            texts = {row["text"] for row in target_items}
            other_items = {
                row["text"]: row
                for row in items
                if row["value"] != value and row["pole"] == "+" and row["text"] not in texts
            }
            target_items += [{**row, "value": value, "pole": "-"} for row in other_items.values()]
            target_items = [{**row, "source": "valuebench (presence against absence)"} for row in target_items]
            presence.append(value)
        rows += target_items
    return rows, presence
