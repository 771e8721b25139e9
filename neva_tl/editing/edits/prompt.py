"""RolePrompt: steer by instruction, the baseline that needs no access to activations."""

from __future__ import annotations

from dataclasses import dataclass

from neva_tl.editing.base import Change, Edit
from neva_tl.models import EditableModel


@dataclass(frozen=True, eq=False)
class RolePrompt(Edit):
    """Put an instruction before every prompt. It has no dose: it is shown at its own gain.

    Attributes:
        instruction: text put before the prompt, with `joiner` between.
    """

    instruction: str
    joiner: str = "\n\n"

    def changes(self, model: EditableModel) -> tuple[Change, ...]:
        """None: the activations are left alone."""
        return ()

    def rewrite(self, prompt: str) -> str:
        """The instruction, then the prompt."""
        return f"{self.instruction}{self.joiner}{prompt}" if prompt else self.instruction
