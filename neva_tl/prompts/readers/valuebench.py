"""ValueBench: questionnaire items with a value's name and the direction of agreement.

Items whose value bears the name of one of Schwartz's ten are used (PVQ40 and the like); all others are dropped and
counted. Portrait items run in one direction only: a value without reversed items is contrasted with the positive
items of the other values, presence against absence, and the column `source` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import existing_file, read_table

_POLES = {"1": "+", "-1": "-"}


def read(path: str | Path) -> ContrastSet:
    """Read the items of Schwartz's values; the text is the item, the cluster is the item too.

    Raises:
        InputError: no item of Schwartz's values, or a malformed line; names file and line.
    """
    file = existing_file(path, "ValueBench's CSV (columns questionnaire, item, value, agreement)")
    items: list[dict[str, Any]] = []
    dropped = 0
    for line, fields in read_table(file, ("questionnaire", "item", "value", "agreement")):
        agreement = fields["agreement"].strip()
        if agreement not in _POLES:
            raise InputError(f"{file}, line {line}: agreement is {agreement!r}: 1 or -1 is expected")
        value = fields["value"].strip().lower().replace(" ", "-")
        if value not in VALUES:
            dropped += 1
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
        raise InputError(f"{file}: none of its {dropped} items has one of Schwartz's ten values as its value")
    rows, presence = _with_absence(_distinct(items))
    note = f"{dropped} items of other values dropped."
    if presence:
        note += f" No reversed items, so presence against absence: {', '.join(presence)}."
    return ContrastSet.from_rows(rows, f"valuebench:{file}", note=note)


def _distinct(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of equal items: several questionnaires share some."""
    return list({(row["value"], row["text"]): row for row in reversed(items)}.values())[::-1]


def _with_absence(items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Give values that lack reversed items the other values' positive items as their `-` pole; names those values."""
    rows: list[dict[str, Any]] = []
    presence = []
    for value in VALUES:
        own = [row for row in items if row["value"] == value]
        if own and all(row["pole"] == "+" for row in own):
            texts = {row["text"] for row in own}
            others = {
                row["text"]: row
                for row in items
                if row["value"] != value and row["pole"] == "+" and row["text"] not in texts
            }
            own += [{**row, "value": value, "pole": "-"} for row in others.values()]
            own = [{**row, "source": "valuebench (presence against absence)"} for row in own]
            presence.append(value)
        rows += own
    return rows, presence
