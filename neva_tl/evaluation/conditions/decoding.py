"""Decoding: how the texts of every compared condition are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neva_tl.core.errors import InputError


@dataclass(frozen=True)
class Decoding:
    """How texts are written: the same in every condition that is compared.

    Attributes:
        max_new_tokens: length of a text.
        temperature: 0 = greedy.
        samples: texts per prompt (more than one needs a temperature above 0).
        seed: of the common random numbers.
        chat: force or forbid the chat template; None uses it where there is one.
        batch_size: prompts generated at once, None by the model's size; has no effect on the texts.
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
            raise InputError(
                "several samples per prompt need a temperature above 0: greedy texts would all be the same"
            )

    def options(self) -> dict[str, Any]:
        """What `inference.generate` takes of it; `samples` is the caller's, who repeats the prompts."""
        names = ("max_new_tokens", "temperature", "seed", "chat", "batch_size")
        return {name: getattr(self, name) for name in names}
