"""TokenSession: the interface between decoding, scoring and an edit in force."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor

#: Tensors that edits and gates computed at some prompts: by edit or gate, by name, one row per prompt.
PromptState = dict[Hashable, dict[str, Tensor]]


@runtime_checkable
class TokenSession(Protocol):
    """Receives the role of every token before each forward pass; `neva_tl.editing.EditSession` implements it."""

    @property
    def active_scopes(self) -> frozenset[str]:
        """Token scopes of the active edits; `all` is among them where an edit or a gate reads the prompt."""
        ...

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """Set the token roles of the next forward pass.

        Args:
            generated: True for generated tokens, False for prompt tokens.
            mask: True for real tokens, False for padding.
        """
        ...

    def mark_new(self) -> None:
        """Announce a step under the key-value cache: one generated token in every row, no padding."""
        ...

    def set_rows(self, prompts: Sequence[int]) -> None:
        """Set the prompt index of each row of the coming forward passes.

        Args:
            prompts: Index of each row's prompt in the caller's list.
        """
        ...

    def keep_rows(self, index: Int[Tensor, " r"]) -> None:
        """Drop all other rows of the batch from the session's state.

        Args:
            index: Rows that remain, in their new order.
        """
        ...

    def prompt_state(self) -> PromptState:
        """Tensors that edits and gates computed at the prompts of the last forward pass."""
        ...

    def resume_from(self, state: PromptState, index: Int[Tensor, " r"]) -> None:
        """Announce that the next forward pass continues prompts of an earlier pass and contains no prompt token.

        Args:
            state: `prompt_state()` after the pass of those prompts.
            index: Row in `state` of each row's prompt.
        """
        ...


def skips_prompts(session: TokenSession | None) -> bool:
    """Whether a session leaves every prompt token unchanged, so that cached unedited prompts are exact.

    Args:
        session: The session in force, None when unedited.
    """
    return session is None or session.active_scopes <= {"generated"}
