"""The set `moral-foundations`: our own contrastive texts for six foundations, in natural English.

Each pair is a situation with a question and two answers: one acts on the foundation, the other gives precedence to a
reasonable consideration of another kind (time, cost, comfort, truth, results). Every foundation has the same eight topics with
five pairs each. Splits divide topics, so that test topics are unseen in training. The cluster, the unit of tests and intervals,
is the pair: the five pairs of a topic share a setting (family, work), but each is a situation of its own, and two test topics
alone would support no interval. The texts take nothing from a questionnaire.
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
    table = pairs()
    topics = (table["value"] + "/" + table["topic"]).groupby(table["value"]).unique()
    split_of = {topic: split for names in topics for topic, split in splits.by_rank(list(names)).items()}
    for pair in _data()["pairs"]:
        topic = f"{pair['value']}/{pair['topic']}"
        counts[topic] = counts.get(topic, 0) + 1
        name = f"{topic}/{counts[topic]}"
        for pole, answer in (("+", pair["plus"]), ("-", pair["minus"])):
            text = f"{pair['prompt']} {answer}"
            rows.append(
                {
                    "value": pair["value"],
                    "pair_id": name,
                    "pole": pole,
                    "text": text,
                    "answer_start": len(text) - len(answer),
                    "answer_end": len(text),
                    "cluster": name,
                    "split": split_of[topic],
                    "source": SOURCE,
                }
            )
    return rows


def open_prompts() -> pd.DataFrame:
    """Return prompts that name no foundation: `text`, `topic`, `split` (by hash rank of the topic, 20/30/50)."""
    table = pd.DataFrame(_data()["open_prompts"])
    table["split"] = table["topic"].map(splits.of_open_prompts(table["topic"].tolist()))
    return table[["text", "topic", "split"]]
