"""LAMBADA (Paperno et al., 2016) as JSON lines: `context`, and the last word as `continuation`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.evaluation.benchmarks.items import Benchmark, Item, jsonl_items
from neva_tl.evaluation.benchmarks.multiple_choice import text


def read_lambada(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read passages with their last words. Every passage is its own cluster.

    Args:
        path: the .jsonl file.
        name: of the set; default: the file's.
        skip_bad: leave malformed rows out and say how many; they stop the reading else.

    Raises:
        InputError: nothing there, or a malformed row (file and line are named).
    """
    return jsonl_items(
        path, "LAMBADA (.jsonl)", ("context", "continuation"), _item, kind="last_word", name=name, skip_bad=skip_bad
    )


def _item(line: int, row: dict[str, Any]) -> Item:
    return Item(str(line), str(line), (text(row, "context"),), (f" {text(row, 'continuation')}",))
