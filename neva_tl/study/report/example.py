"""One prompt of a run with its unedited and its steered text, chosen by rank and not by eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from neva_tl.plots.style import need, value_colour
from neva_tl.plots.text_pairs import Word, text_pairs, word_diff
from neva_tl.study.report.numbers import finite, fixed

COLUMNS = ("method", "steered", "prompt", "text")
#: Maximum number of words of each text, and of characters of the prompt.
WORDS, PROMPT = 42, 240


def example(generations: pd.DataFrame, method: str | None) -> dict[str, Any] | None:
    """Return the prompt whose change in score is the median, of the value whose mean change is the median.

    Args:
        generations: table `generations`.
        method: The method of the steered text; the first that has texts where this one has none.

    Returns:
        The data of the template; None where the run has no steered texts.

    Raises:
        InputError: A column is missing, or the table has no unedited texts.
    """
    table = need(generations, COLUMNS, "generations")
    texts_of = set(table.loc[table["steered"].notna(), "method"].astype(str))
    pairs, value, label = text_pairs(table, method=method if method in texts_of else None)
    if not value or pairs.empty:
        return None
    scored = pairs[pairs["change"].notna()].sort_values("change", kind="stable")
    row = scored.iloc[(len(scored) - 1) // 2] if len(scored) else pairs.iloc[0]
    before, after = word_diff(row["before"], row["after"], WORDS)
    return {
        "value": value,
        "colour": value_colour(value),
        "label": label,
        "prompt": _start(str(row["prompt"]).strip()),
        "before": {"words": _runs(before), "score": _score(row["score_before"])},
        "after": {"words": _runs(after), "score": _score(row["score_after"])},
        "choice": _choice(len(scored), len(pairs), value, table["steered"].nunique()),
    }


def _runs(words: Sequence[Word]) -> list[tuple[str, bool]]:
    """Join neighbouring words that are all shared or all changed."""
    runs: list[tuple[str, bool]] = []
    for word, changed in words:
        if runs and runs[-1][1] == changed:
            runs[-1] = (f"{runs[-1][0]} {word}", changed)
        else:
            runs.append((word, changed))
    return runs


def _start(prompt: str) -> str:
    return prompt if len(prompt) <= PROMPT else prompt[:PROMPT].rstrip() + " …"


def _score(raw: Any) -> str:
    return "" if finite(raw) is None else fixed(raw)


def _choice(scored: int, prompts: int, value: str, values: int) -> str:
    if not scored:
        return f"The first of {prompts} test prompts, not selected by result."
    of_values = f", and {value} is the value of median change among {values}" if values > 1 else ""
    return f"Chosen by rank: its change in score is the median of {scored} prompts{of_values}."
