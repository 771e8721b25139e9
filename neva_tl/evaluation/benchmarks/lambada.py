"""LAMBADA (Paperno et al., 2016) as JSON lines: `context`, and the last word as `continuation`."""

from __future__ import annotations

from pathlib import Path

from neva_tl.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item, bad_rows, counted
from neva_tl.evaluation.benchmarks.multiple_choice import text
from neva_tl.prompts.text_files import complain, existing_file, read_jsonl


def read_lambada(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read passages with their last words. Every passage is its own cluster.

    Args:
        path: the .jsonl file.
        name: of the set; default: the file's.
        skip_bad: leave malformed rows out and say how many; they stop the reading else.

    Raises:
        InputError: nothing there, or a malformed row (file and line are named).
    """
    file = existing_file(path, "LAMBADA (.jsonl)")
    name, bad = name or file.stem, bad_rows(skip_bad)
    items = []
    for line, row in read_jsonl(file, ("context", "continuation"), bad=bad):
        try:
            context, word = text(row, "context"), text(row, "continuation")
        except InputError as error:
            complain(f"{file}, line {line}: {error}", bad)
            continue
        items.append(Item(str(line), str(line), (context,), (f" {word}",)))
    return Benchmark(name, "last_word", tuple(items), skipped=counted(name, bad))
