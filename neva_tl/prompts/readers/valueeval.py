"""Touche23-ValueEval: arguments (conclusion, stance, premise) with 20 binary value categories.

The labels mark the values that an argument draws on, never those that it opposes: `+` is presence, `-` is absence, as the
column `source` states. Each conclusion contributes as many absences as presences, so that the topic of an argument does not
distinguish the poles. The arguments are unpaired.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.core.theories import SCHWARTZ, SCHWARTZ20, ValueTheory
from neva_tl.core.theories.schwartz20 import NAME_OF_CATEGORY
from neva_tl.prompts.contrast import ContrastSet
from neva_tl.prompts.splits import hash_key
from neva_tl.prompts.text_files import dropped, existing_file, existing_folder, joined_notes, read_table

#: The 20 categories as ten values (ours). They follow the refined theory, whose subdivisions are merged as in the theory of
#: 1992 (public image belongs to power, humility to tradition); "objectivity", an addition of the corpus authors, counts as
#: universalism.
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


def read(path: str | Path, theory: ValueTheory | None = None) -> ContrastSet:
    """Read every `arguments-NAME.tsv` of the folder with a matching `labels-NAME.tsv`.

    The text is one sentence with claim and stance, then the premise, which is the answer span. The cluster is the
    conclusion.

    Args:
        path: Folder of the corpus.
        theory: Theory whose values the categories become: Schwartz's ten (None too), or `schwartz20`.

    Raises:
        InputError: Another theory, no such files, a malformed line, or an argument without labels; names file and line.
    """
    theory = theory or SCHWARTZ
    if theory not in (SCHWARTZ, SCHWARTZ20):
        raise InputError(f"ValueEval's labels are values of schwartz or of schwartz20, not of {theory.name}")
    folder = existing_folder(path, "ValueEval's arguments-*.tsv and labels-*.tsv")
    all_arguments: list[dict[str, Any]] = []
    for file in sorted(folder.glob("arguments-*.tsv")):
        name = file.stem.removeprefix("arguments-")
        if (folder / f"labels-{name}.tsv").exists():
            all_arguments += arguments(folder, name)
    if not all_arguments:
        raise InputError(f"{folder} holds no arguments-NAME.tsv with a labels-NAME.tsv")
    unique = list({argument["text"]: argument for argument in reversed(all_arguments)}.values())[::-1]
    if theory == SCHWARTZ20:
        unique = [{**one, "values": frozenset(NAME_OF_CATEGORY[name] for name in one["categories"])} for one in unique]
    rows = [row for value in theory.names for row in _contrast(unique, value)]
    total, used = len(all_arguments), len({row["text"] for row in rows})
    note = joined_notes(
        f"{len(unique):,} arguments; + is presence of the value, - its absence in an argument on the same conclusion.",
        dropped(total - len(unique), total, "arguments", "repeated ones"),
        dropped(
            len(unique) - used,
            total,
            "arguments",
            "no argument on the same conclusion has the opposite label of any value",
        ),
        without_labels(folder),
    )
    return ContrastSet.from_rows(rows, f"valueeval:{folder}", note=note, theory=theory)


def without_labels(folder: Path) -> str:
    """Return the sentence about the files of arguments that have no file of labels; empty for none.

    Args:
        folder: Folder of the corpus.
    """
    names = [file.stem.removeprefix("arguments-") for file in sorted(folder.glob("arguments-*.tsv"))]
    files = [f"arguments-{name}.tsv" for name in names if not (folder / f"labels-{name}.tsv").exists()]
    return f"Not read, because there is no file of labels for it: {', '.join(files)}." if files else ""


def arguments(folder: Path, split: str) -> list[dict[str, Any]]:
    """Read the arguments of one part of the corpus.

    Args:
        folder: Folder of the corpus.
        split: Name of the part (`training`, `test`, ...).

    Returns:
        Per argument: `id`, `text` (one sentence with claim and stance, then the premise, which is
        `text[answer_start:answer_end]`), `cluster` (the conclusion), `categories` and `values` present, `line`, `file`.

    Raises:
        InputError: A file is missing, a line is malformed, or an argument has no labels; names file and line.
    """
    file = existing_file(folder / f"arguments-{split}.tsv", "ValueEval's arguments")
    labels = existing_file(folder / f"labels-{split}.tsv", "ValueEval's labels")
    present: dict[str, frozenset[str]] = {}
    for line, row in read_table(labels, ("Argument ID", *CATEGORIES), delimiter="\t", quoted=False):
        for category in CATEGORIES:
            if row[category] not in ("0", "1"):
                raise InputError(f"{labels}, line {line}: {category} is {row[category]!r}: 0 or 1 is expected")
        present[row["Argument ID"]] = frozenset(name for name in CATEGORIES if row[name] == "1")
    out = []
    for line, row in read_table(file, ("Argument ID", "Conclusion", "Stance", "Premise"), delimiter="\t", quoted=False):
        argument_id, stance = row["Argument ID"], row["Stance"].strip()
        if argument_id not in present:
            raise InputError(f"{file}, line {line}: argument {argument_id} has no line in {labels.name}")
        if stance not in _STANCES:
            raise InputError(f"{file}, line {line}: stance is {stance!r}: 'in favor of' or 'against' is expected")
        conclusion, premise = row["Conclusion"].strip().rstrip("."), row["Premise"].strip()
        context = f"An argument {_STANCES[stance]} the claim that {conclusion[:1].lower()}{conclusion[1:]}: "
        out.append(
            {
                "categories": present[argument_id],
                "values": frozenset(CATEGORIES[name] for name in present[argument_id]),
                "id": argument_id,
                "text": context + premise,
                "answer_start": len(context),
                "answer_end": len(context) + len(premise),
                "cluster": conclusion,
                "line": line,
                "file": str(file),
            }
        )
    return out


def _contrast(all_arguments: Iterable[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """Return as many absences as presences of a value within each conclusion, chosen by hash of the text."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: {"+": [], "-": []})
    for argument in all_arguments:
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
