"""Plain texts for perplexity: a .json list of texts (TinyStories), or a .txt with blank lines between texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item
from neva_tl.prompts.text_files import bad_rows, complain, counted, existing_file


def read_plain_text(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read texts. Every text is its own cluster.

    Args:
        path: .json (a list of texts) or .txt (paragraphs).
        name: of the set; default: the file's.
        skip_bad: leave list entries that are no text out and say how many; they stop the reading else.

    Raises:
        InputError: nothing there, no list, or an entry that is no text (file and number are named).
    """
    file = existing_file(path, "texts (.json or .txt)")
    name, bad = name or file.stem, bad_rows(skip_bad)
    try:
        whole = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}): save it as UTF-8") from error
    if file.suffix == ".json":
        try:
            found = json.loads(whole)
        except json.JSONDecodeError as error:
            raise InputError(f"{file}, line {error.lineno}: not JSON ({error.msg})") from error
        if not isinstance(found, list):
            raise InputError(f"{file} holds a JSON {type(found).__name__}: a list of texts is expected")
    else:
        found = [part for part in re.split(r"\n\s*\n", whole) if part.strip()]
    items = []
    for number, entry in enumerate(found, start=1):
        if isinstance(entry, str) and entry.strip():
            items.append(Item(str(number), str(number), ("",), (entry.strip(),)))
        else:
            complain(f"{file}, text {number}: no text", bad)
    return Benchmark(name, "text", tuple(items), skipped=counted(name, bad))
