"""Decoding settings, common to all compared conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neva_tl.core.arguments import CheckedArguments
from neva_tl.core.errors import InputError


@dataclass(frozen=True)
class Decoding(metaclass=CheckedArguments):
    """Settings of text generation; compared conditions must share them.

    Attributes:
        max_new_tokens: Maximum length of a text in tokens.
        temperature: Sampling temperature; 0 = greedy.
        samples: Texts per prompt (more than one needs a temperature above 0).
        seed: Seed of the common random numbers.
        chat: Force or forbid the chat template; None uses it where the tokenizer has one.
        batch_size: Prompts per batch; None chooses it by the size of the model. It does not affect the texts.

    Example:
        >>> nv.evaluation.Decoding(max_new_tokens=12).options()["max_new_tokens"]
        12
    """

    max_new_tokens: int = 24
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    chat: bool | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_new_tokens < 1:
            raise InputError("decoding needs at least one sample of at least one token")
        if self.samples > 1 and self.temperature <= 0:
            raise InputError("several samples per prompt need a temperature above 0: greedy texts would be identical")

    def options(self) -> dict[str, Any]:
        """Return the options of `inference.generate`, without `samples`: the caller repeats the prompts."""
        names = ("max_new_tokens", "temperature", "seed", "chat", "batch_size")
        return {name: getattr(self, name) for name in names}
