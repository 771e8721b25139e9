"""Example: a prompt and the answer whose tokens are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A prompt and its answer.

    Attributes:
        prompt: Text before the answer (the user's turn for a chat model, plain leading text otherwise); may be "".
        answer: Span whose tokens count (for collecting activations and summing log-probabilities).
    """

    prompt: str
    answer: str
