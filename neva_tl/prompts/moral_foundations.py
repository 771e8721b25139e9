"""The set `moral-foundations`: our own contrastive texts for six foundations, in natural English.

Each pair is a situation with a question and two answers: one acts on the foundation, the other gives precedence to a
reasonable consideration of another kind (time, cost, comfort, truth, results). Every foundation has the same eight topics with
five pairs each; the cluster is value/topic, so that splits divide topics. The texts take nothing from a questionnaire.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd

from neva_tl.core.errors import InputError
from neva_tl.core.names import did_you_mean
from neva_tl.prompts import splits

SOURCE = "moral-foundations"


@cache
def _data() -> dict[str, Any]:
    """Read the data file of the set."""
    file = resources.files("neva_tl.prompts") / "moral_foundations.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def foundations() -> tuple[str, ...]:
    """Return the names of the six foundations."""
    return tuple(_data()["words"])


def pairs() -> pd.DataFrame:
    """Return the pairs, one per row: `value`, `topic`, `prompt`, `plus`, `minus`."""
    return pd.DataFrame(_data()["pairs"])[["value", "topic", "prompt", "plus", "minus"]]


def word_list(name: str) -> tuple[str, ...]:
    """Return the word list of a foundation, in lower case.

    Args:
        name: Name of a foundation.

    Raises:
        InputError: Unknown foundation.
    """
    lists = _data()["words"]
    if name not in lists:
        raise InputError(f"unknown foundation {name!r}: {did_you_mean(name, lists)}one of {', '.join(lists)}")
    return tuple(lists[name])


def contrast_rows() -> list[dict[str, Any]]:
    """Return both texts of every pair as rows for `ContrastSet`; the answer is the answer span."""
    rows = []
    counts: dict[str, int] = {}
    for pair in _data()["pairs"]:
        cluster = f"{pair['value']}/{pair['topic']}"
        counts[cluster] = counts.get(cluster, 0) + 1
        for pole, answer in (("+", pair["plus"]), ("-", pair["minus"])):
            text = f"{pair['prompt']} {answer}"
            rows.append(
                {
                    "value": pair["value"],
                    "pair_id": f"{cluster}/{counts[cluster]}",
                    "pole": pole,
                    "text": text,
                    "answer_start": len(text) - len(answer),
                    "answer_end": len(text),
                    "cluster": cluster,
                    "source": SOURCE,
                }
            )
    return rows


def open_prompts() -> pd.DataFrame:
    """Return prompts that name no foundation: `text`, `topic`, `split` (by hash rank of the topic, 20/30/50)."""
    table = pd.DataFrame(_data()["open_prompts"])
    table["split"] = table["topic"].map(splits.of_open_prompts(table["topic"].tolist()))
    return table[["text", "topic", "split"]]
