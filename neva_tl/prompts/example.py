"""One thing for a model to read: a prompt and the answer whose tokens are looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A prompt and its answer.

    Attributes:
        prompt: what comes before the answer: the user's turn of a chat model, plain leading text otherwise; may be "".
        answer: the span whose tokens count (activations are collected there, log-probabilities summed).
    """

    prompt: str
    answer: str
