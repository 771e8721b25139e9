"""A tiny model and a few pairs, for the parts of the collector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neva_tl import models
from neva_tl.models.tiny import tiny_checkpoint
from neva_tl.prompts import ContrastSet

WORDS = ["bread", "river", "gold", "stone", "village", "dawn", "winter", "lamp", "road", "letter"]


def _pairs(topics: int = 12) -> ContrastSet:
    """Two values, pairs of ragged texts, a common prompt in each pair."""
    rows = []
    for value in ("power", "benevolence"):
        for topic in range(topics):
            for pole, verb in (("+", "takes"), ("-", "leaves")):
                prompt = f"What about the {WORDS[topic % 10]}?"
                text = f"{prompt} One {verb} the {' '.join(WORDS[: 1 + topic % 7])} ({value}, {topic})."
                rows.append(
                    {
                        "value": value,
                        "pair_id": f"{value} {topic}",
                        "pole": pole,
                        "text": text,
                        "answer_start": len(prompt) + 1,
                        "answer_end": len(text),
                        "cluster": f"topic {topic}",
                        "split": "train",
                        "source": "test",
                    }
                )
    return ContrastSet.from_rows(rows, "test")


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("collecting") / "llama")


@pytest.fixture(scope="package")
def model(folder: Path) -> Any:
    return models.load(folder)


@pytest.fixture(scope="package")
def pairs() -> ContrastSet:
    return _pairs()
