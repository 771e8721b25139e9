"""RolePrompt: steer by instruction, the baseline that needs no access to activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neva_tl.core.auto import DoseUnit
from neva_tl.editing.base import Change, Edit
from neva_tl.models import EditableModel


@dataclass(frozen=True, eq=False)
class RolePrompt(Edit):
    """Prepend an instruction to every prompt. It has no dose: reports show it at its own gain.

    Attributes:
        instruction: Text before the prompt.
        joiner: Text between instruction and prompt.
    """

    unit: ClassVar[DoseUnit] = "none"
    instruction: str
    joiner: str = "\n\n"

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """No change: activations are not edited."""
        del model
        return ()

    def rewrite(self, prompt: str) -> str:
        """The instruction, then the prompt."""
        return f"{self.instruction}{self.joiner}{prompt}" if prompt else self.instruction
