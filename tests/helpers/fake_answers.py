"""A stand-in for a model's answers: letters get the log-probabilities that a planted preference says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

OPTION = re.compile(r"^([A-Z])\) (.*)$", re.MULTILINE)


def options_of(prompt: str) -> dict[str, str]:
    """The options that a prompt shows, by letter."""
    return dict(OPTION.findall(prompt))


def answers(liking: Callable[[str, str, str], float]) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """A replacement of `inference.answer_logprobs`: `liking(prompt, letter, option)` in nats for each example."""

    def fake(model: Any, examples: Sequence[Any], **options: Any) -> tuple[np.ndarray, np.ndarray]:
        found = [liking(e.prompt, e.answer, options_of(e.prompt)[e.answer]) for e in examples]
        return np.array(found, dtype=float), np.ones(len(examples), dtype=np.int64)

    return fake
