"""Reader of LAMBADA (Paperno et al., 2016) as JSON lines.

Keys: `context`, and the last word as `continuation`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.evaluation.benchmarks.items import Benchmark, Item, jsonl_items, text_field


def read_lambada(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read passages with their last words; every passage is its own cluster.

    Args:
        path: The .jsonl file.
        name: Name of the set. Default: the file's stem.
        skip_bad: Leave malformed rows out and count them in `note`. The first malformed row raises otherwise.

    Raises:
        InputError: The path is missing or empty, or a row is malformed (the message names file and line).
    """
    return jsonl_items(
        path, "LAMBADA (.jsonl)", ("context", "continuation"), _item, kind="last_word", name=name, skip_bad=skip_bad
    )


def _item(line: int, row: dict[str, Any]) -> Item:
    return Item(str(line), str(line), (text_field(row, "context"),), (f" {text_field(row, 'continuation')}",))
