"""Reader of multiple-choice sets as JSON lines.

Keys `query`, `choices` and `gold` (PIQA, OpenBookQA, COPA and others of llm-foundry), or `context_options`, `continuation` and
`gold` (Winograd), where the contexts differ and share one continuation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neva_tl.evaluation.benchmarks.items import Benchmark, Item, index_field, jsonl_items, text_field, text_list_field


def read_multiple_choice(path: str | Path, name: str = "", *, skip_bad: bool = False) -> Benchmark:
    """Read a multiple-choice file; items with the same query form one cluster.

    A query that begins with `Question:` and does not contain `Answer:` gets `Answer:` on a line of its own (the prompt of PIQA
    in lm-evaluation-harness). Other queries are unchanged.

    Args:
        path: The .jsonl file.
        name: Name of the set. Default: the file's stem.
        skip_bad: Leave malformed rows out and count them in `note`. The first malformed row raises otherwise.

    Raises:
        InputError: The path is missing or empty, or a row is malformed (the message names file and line).
    """
    return jsonl_items(
        path, "a multiple-choice set (.jsonl)", ("gold",), _item, kind="choice", name=name, skip_bad=skip_bad
    )


def _item(line: int, row: dict[str, Any]) -> Item:
    number = str(line)
    if "context_options" in row:
        prompts = text_list_field(row, "context_options")
        continuation = text_field(row, "continuation")
        gold = index_field(row, "gold", len(prompts))
        return Item(number, number, prompts, (f" {continuation}",) * len(prompts), gold)
    choices, query = text_list_field(row, "choices"), text_field(row, "query")
    if query.startswith("Question:") and "Answer:" not in query:
        query = f"{query}\nAnswer:"
    gold = index_field(row, "gold", len(choices))
    return Item(number, query, (query,) * len(choices), tuple(f" {choice}" for choice in choices), gold)
