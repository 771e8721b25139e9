"""Reader of plain texts for perplexity.

A .json list of texts (TinyStories), or a .txt file with blank lines between texts.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item
from neva_tl.prompts.text_files import bad_rows, complain, counted, existing_file


def read_plain_text(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read texts; every text is its own cluster.

    Args:
        path: A .json file (a list of texts) or a .txt file (paragraphs).
        name: Name of the set. Default: the file's stem.
        skip_bad: Leave list entries that are not texts out and count them in `note`. The first one raises otherwise.

    Raises:
        InputError: The file is missing or empty, its JSON is not a list, or an entry is not a text (the message names file and
            number).
    """
    file = existing_file(path, "texts (.json or .txt)")
    name, bad = name or file.stem, bad_rows(skip_bad)
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}): save it as UTF-8") from error
    if file.suffix == ".json":
        try:
            texts = json.loads(content)
        except json.JSONDecodeError as error:
            raise InputError(f"{file}, line {error.lineno}: not JSON ({error.msg})") from error
        if not isinstance(texts, list):
            raise InputError(f"{file} holds a JSON {type(texts).__name__}: a list of texts is expected")
    else:
        texts = [paragraph for paragraph in re.split(r"\n\s*\n", content) if paragraph.strip()]
    items = []
    for number, entry in enumerate(texts, start=1):
        if isinstance(entry, str) and entry.strip():
            items.append(Item(str(number), str(number), ("",), (entry.strip(),)))
        else:
            complain(f"{file}, text {number}: no text", bad)
    return Benchmark(
        name, "text", tuple(items), skipped=len(bad or ()), note=counted(name, bad, len(items)), source=str(file)
    )
