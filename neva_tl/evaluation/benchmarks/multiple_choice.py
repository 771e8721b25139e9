"""Multiple choice as JSON lines: `query`, `choices`, `gold` (PIQA, OpenBookQA, COPA, ... of llm-foundry).

Also `context_options`, `continuation`, `gold` (Winograd): there the contexts differ and the continuation is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.core.errors import InputError
from neva_tl.evaluation.benchmarks.items import Benchmark, Item, jsonl_items


def read_multiple_choice(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read a multiple-choice file. Items with the same query are one cluster.

    A query that begins with `Question:` and names no answer gets `Answer:` on a line of its own (the prompt of PIQA in
    lm-evaluation-harness); others stand as they are.

    Args:
        path: the .jsonl file.
        name: of the set; default: the file's.
        skip_bad: leave malformed rows out and say how many; they stop the reading else.

    Raises:
        InputError: nothing there, or a malformed row (file and line are named).
    """
    return jsonl_items(
        path, "a multiple-choice set (.jsonl)", ("gold",), _item, kind="choice", name=name, skip_bad=skip_bad
    )


def _item(line: int, row: dict[str, Any]) -> Item:
    if "context_options" in row:
        prompts = texts(row, "context_options")
        continuation = text(row, "continuation")
        return Item(
            str(line), str(line), prompts, (f" {continuation}",) * len(prompts), place(row["gold"], len(prompts))
        )
    choices, query = texts(row, "choices"), text(row, "query")
    if query.startswith("Question:") and "Answer:" not in query:
        query = f"{query}\nAnswer:"
    return Item(
        str(line), query, (query,) * len(choices), tuple(f" {x}" for x in choices), place(row["gold"], len(choices))
    )


def text(row: dict[str, Any], key: str) -> str:
    """A text of a row, without the space around it.

    Raises:
        InputError: absent, empty or no text.
    """
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise InputError(f"{key!r} should hold a text")
    return str(row[key]).strip()


def texts(row: dict[str, Any], key: str) -> tuple[str, ...]:
    """At least two texts of a row, without the space around them.

    Raises:
        InputError: fewer, an empty one, or no list.
    """
    found = row.get(key)
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(x, str) and x.strip() for x in found):
        raise InputError(f"{key!r} should hold a list of two texts or more")
    return tuple(x.strip() for x in found)


def place(gold: Any, n: int) -> int:
    """The place of the right answer.

    Raises:
        InputError: no whole number from 0 to n - 1.
    """
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < n:
        raise InputError(f"gold is {gold!r}: a place from 0 to {n - 1} is expected")
    return gold
