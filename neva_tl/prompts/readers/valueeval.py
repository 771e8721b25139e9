"""Touche23-ValueEval: arguments (conclusion, stance, premise) with 20 binary value categories.

The labels say which values an argument draws on, never which it opposes: `+` is presence, `-` is absence, and the
column `source` says so. Absences are taken from arguments on the same conclusion, as many as presences, so that the
topic of the argument does not tell the poles apart. The arguments are not pairs and none are made of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.values import VALUES
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import existing_file, existing_folder, read_table

#: The 20 categories as ten values (ours). They follow the refined theory; what it splits is joined again as in the
#: theory of 1992, where public image belonged to power and humility to tradition; "objectivity", the corpus authors'
#: own addition, stays with the other kinds of universalism.
CATEGORIES: dict[str, str] = {
    "Self-direction: thought": "self-direction",
    "Self-direction: action": "self-direction",
    "Stimulation": "stimulation",
    "Hedonism": "hedonism",
    "Achievement": "achievement",
    "Power: dominance": "power",
    "Power: resources": "power",
    "Face": "power",
    "Security: personal": "security",
    "Security: societal": "security",
    "Tradition": "tradition",
    "Conformity: rules": "conformity",
    "Conformity: interpersonal": "conformity",
    "Humility": "tradition",
    "Benevolence: caring": "benevolence",
    "Benevolence: dependability": "benevolence",
    "Universalism: concern": "universalism",
    "Universalism: nature": "universalism",
    "Universalism: tolerance": "universalism",
    "Universalism: objectivity": "universalism",
}
SOURCE = "valueeval (presence against absence)"
_STANCES = {"in favor of": "for", "in favour of": "for", "against": "against"}


def read(path: str | Path) -> ContrastSet:
    """Read every `arguments-NAME.tsv` of the folder that has its `labels-NAME.tsv`.

    The text is one sentence naming claim and stance, then the premise, which is the answer span. The cluster is the
    conclusion.

    Raises:
        InputError: no such files, a malformed line, or an argument without labels; names file and line.
    """
    folder = existing_folder(path, "ValueEval's arguments-*.tsv and labels-*.tsv")
    rows_of: list[dict[str, Any]] = []
    for file in sorted(folder.glob("arguments-*.tsv")):
        part = file.stem.removeprefix("arguments-")
        if (folder / f"labels-{part}.tsv").exists():
            rows_of += arguments(folder, part)
    if not rows_of:
        raise InputError(f"{folder} holds no arguments-NAME.tsv with a labels-NAME.tsv beside it")
    unique = list({argument["text"]: argument for argument in reversed(rows_of)}.values())[::-1]
    rows = [row for value in VALUES for row in _contrast(unique, value)]
    note = (
        f"{len(unique)} arguments ({len(rows_of) - len(unique)} repeated ones dropped); "
        "+ is presence of the value, - its absence in an argument on the same conclusion."
    )
    return ContrastSet.from_rows(rows, f"valueeval:{folder}", note=note)


def arguments(folder: Path, part: str) -> list[dict[str, Any]]:
    """The arguments of one part (`training`, `test`, ...): id, text (one sentence naming claim and stance, then the premise,
    which is `text[answer_start:answer_end]`), cluster (the conclusion), categories and values present, line and file.

    Raises:
        InputError: a file is missing, a line malformed, or an argument without labels; names file and line.
    """
    file = existing_file(folder / f"arguments-{part}.tsv", "ValueEval's arguments")
    labels = existing_file(folder / f"labels-{part}.tsv", "ValueEval's labels")
    present: dict[str, frozenset[str]] = {}
    for line, row in read_table(labels, ("Argument ID", *CATEGORIES), delimiter="\t", quoted=False):
        for category in CATEGORIES:
            if row[category] not in ("0", "1"):
                raise InputError(f"{labels}, line {line}: {category} is {row[category]!r}: 0 or 1 is expected")
        present[row["Argument ID"]] = frozenset(name for name in CATEGORIES if row[name] == "1")
    out = []
    for line, row in read_table(file, ("Argument ID", "Conclusion", "Stance", "Premise"), delimiter="\t", quoted=False):
        identity, stance = row["Argument ID"], row["Stance"].strip()
        if identity not in present:
            raise InputError(f"{file}, line {line}: argument {identity} has no line in {labels.name}")
        if stance not in _STANCES:
            raise InputError(f"{file}, line {line}: stance is {stance!r}: 'in favor of' or 'against' is expected")
        conclusion, premise = row["Conclusion"].strip().rstrip("."), row["Premise"].strip()
        context = f"An argument {_STANCES[stance]} the claim that {conclusion[:1].lower()}{conclusion[1:]}: "
        out.append(
            {
                "categories": present[identity],
                "values": frozenset(CATEGORIES[name] for name in present[identity]),
                "id": identity,
                "text": context + premise,
                "answer_start": len(context),
                "answer_end": len(context) + len(premise),
                "cluster": conclusion,
                "line": line,
                "file": str(file),
            }
        )
    return out


def _contrast(rows_of: Iterable[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """As many absences as presences within each conclusion (the hash of the text decides which)."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: {"+": [], "-": []})
    for argument in rows_of:
        groups[argument["cluster"]]["+" if value in argument["values"] else "-"].append(argument)
    rows = []
    for poles in groups.values():
        n = min(len(poles["+"]), len(poles["-"]))
        for pole, members in poles.items():
            for argument in sorted(members, key=lambda a: hash_key(a["text"]))[:n]:
                row = {
                    name: argument[name] for name in ("text", "answer_start", "answer_end", "cluster", "line", "file")
                }
                rows.append({**row, "value": value, "pole": pole, "source": SOURCE})
    return rows
