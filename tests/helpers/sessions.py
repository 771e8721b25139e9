"""Sessions that record or edit without the editing module, and texts to run them on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from neva_tl import models
from neva_tl.prompts.example import Example

EXAMPLES = (
    Example("Should Dana help her aunt?", "Yes, she should."),
    Example("Should Dana help her aunt?", "No."),
    Example("The old king", "counts his golden coins while the villagers share their bread."),
    Example("", "every child shares bread with strangers"),
    Example("Naïve café — 東京?", "日本 is far away, isn't it?"),
)
PROMPTS = ("Once upon a time", "The dog", "Lily and Tom went to the park because", "Why?")


@dataclass
class Recorder:
    """A session that edits nothing and remembers what it was told."""

    active_scopes: frozenset[str] = frozenset({"generated"})
    marks: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    rows: int = 0

    def mark(self, generated: torch.Tensor, mask: torch.Tensor) -> None:
        self.marks.append((generated, mask))
        self.rows = len(mask)

    def mark_new(self) -> None:
        new = torch.ones(self.rows, 1, dtype=torch.bool)
        self.mark(new, new)

    def set_rows(self, prompts: Sequence[int]) -> None:
        self.rows = len(prompts)

    def keep_rows(self, index: torch.Tensor) -> None:
        assert len(index) < self.rows
        self.rows = len(index)

    def prompt_state(self) -> dict[Any, dict[str, torch.Tensor]]:
        return {}

    def resume_from(self, state: dict[Any, dict[str, torch.Tensor]], index: torch.Tensor) -> None:
        assert not state


@contextmanager
def edit_marked(model: Any, session: Recorder) -> Any:
    """A strong edit of the marked tokens alone, written without the editing module."""

    def shift(x: torch.Tensor, hook: Any = None) -> torch.Tensor:
        generated, _ = session.marks[-1]
        return x + 0.5 * generated[..., None].to(x.dtype)

    handles = [models.add_hook(model, models.hook_name(model, layer, "post"), shift) for layer in (0, 2)]
    try:
        yield session
    finally:
        for handle in handles:
            handle.remove()
