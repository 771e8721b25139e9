"""Reader of MMLU (Hendrycks et al., 2021).

One headerless csv file per subject with the fields question, A, B, C, D and the right letter.

Two forms. `letters`: the prompt lists the options and the candidates are the letters. `cloze`: the candidates are the options'
texts as continuations of the question, the usual form for small models, which cannot use letters.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item
from neva_tl.prompts.text_files import bad_rows, complain, counted, existing_file

LETTERS: tuple[str, ...] = ("A", "B", "C", "D")
Form = Literal["letters", "cloze"]


def read_mmlu(path: str | Path, name: str = "mmlu", *, form: Form = "cloze", skip_bad: bool = False) -> Benchmark:
    """Read one subject, or every .csv file of a folder.

    Prompts are zero-shot and begin with a line that names the subject. Letters: `QUESTION`, `A. ...` to `D. ...`, `Answer:`,
    with the candidates ` A` to ` D`. Cloze: `Question: QUESTION`, `Answer:`, with the options' texts as candidates. Every item
    is its own cluster.

    Args:
        path: A .csv file or a folder of them.
        name: Name of the set; ` (letters)` or ` (cloze)` is appended.
        form: `letters` or `cloze`.
        skip_bad: Leave malformed rows out and count them in `note`. The first malformed row raises otherwise.

    Raises:
        InputError: The path is missing or empty, or a row is malformed (the message names file and line).
    """
    source = Path(path).expanduser()
    files = sorted(source.glob("*.csv")) if source.is_dir() else [existing_file(source, "an MMLU subject (.csv)")]
    if not files:
        raise InputError(f"{source} holds no .csv file: MMLU has one per subject")
    bad = bad_rows(skip_bad)
    name = f"{name} ({form})"
    items = []
    for file in files:
        subject = file.stem.removesuffix("_test").removesuffix("_val").removesuffix("_dev")
        for line, row in _rows(existing_file(file, "an MMLU subject (.csv)"), bad):
            items.append(_item(f"{subject}/{line}", subject.replace("_", " "), row, form))
    return Benchmark(
        name,
        "letter" if form == "letters" else "choice",
        tuple(items),
        skipped=len(bad or ()),
        note=counted(name, bad, len(items)),
        source=str(source),
    )


def _rows(file: Path, bad: list[str] | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a subject: (line on which the row ends, six fields)."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        try:
            for fields in reader:
                row = [field.strip() for field in fields]
                where = f"{file}, line {reader.line_num}"
                if not any(row):
                    continue
                if len(row) != 6:
                    complain(f"{where}: {len(row)} fields; question, A, B, C, D, answer are expected", bad)
                elif not all(row[:5]):
                    complain(f"{where}: the question or an option is empty", bad)
                elif row[5] not in LETTERS:
                    complain(f"{where}: the answer is {row[5]!r}: A, B, C or D is expected", bad)
                else:
                    yield reader.line_num, row
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 text ({error.reason}): save it as UTF-8") from error
        except csv.Error as error:
            raise InputError(f"{file}, line {reader.line_num}: {error}") from error


def _item(number: str, subject: str, row: list[str], form: Form) -> Item:
    question, options, gold = row[0], row[1:5], LETTERS.index(row[5])
    if form == "letters":
        head = f"The following are multiple choice questions (with answers) about {subject}."
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
        prompt, candidates = f"{head}\n\n{question}\n{listed}\nAnswer:", LETTERS
    else:
        head = f"The following are questions (with answers) about {subject}."
        prompt, candidates = f"{head}\n\nQuestion: {question}\nAnswer:", tuple(options)
    return Item(number, number, (prompt,) * 4, tuple(f" {x}" for x in candidates), gold)
