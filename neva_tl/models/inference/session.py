"""TokenSession: the interface between decoding, scoring and an edit in force.

Every session in force on a model is registered there, so that the loops of `neva_tl` mark tokens for all of them, whether the
caller passes a session or not.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Int
from torch import Tensor

from neva_tl.core.errors import InputError
from neva_tl.models.facts import MEMO

#: Tensors that edits and gates computed at some prompts: by edit or gate, by name, one row per prompt.
PromptState = dict[Hashable, dict[str, Tensor]]


@runtime_checkable
class TokenSession(Protocol):
    """Receives the role of every token before each forward pass; `neva_tl.editing.EditSession` implements it.

    Example:
        >>> with nv.edit(model, edit) as session:  # an edit session is one
        ...     scores, n = nv.answer_logprobs(model, [nv.Example("mara says", "that")], session=session)
        >>> isinstance(session, nv.inference.TokenSession)
        True
    """

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


@dataclass(frozen=True, eq=False)
class SessionGroup:
    """Several sessions in force on one model as one `TokenSession`.

    Attributes:
        members: The sessions, the outermost block first.
    """

    members: tuple[TokenSession, ...]

    @property
    def active_scopes(self) -> frozenset[str]:
        """Token scopes of all active edits."""
        return frozenset().union(*(session.active_scopes for session in self.members))

    def mark(self, generated: Bool[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> None:
        """See `TokenSession.mark`."""
        for session in self.members:
            session.mark(generated, mask)

    def mark_new(self) -> None:
        """See `TokenSession.mark_new`."""
        for session in self.members:
            session.mark_new()

    def set_rows(self, prompts: Sequence[int]) -> None:
        """See `TokenSession.set_rows`."""
        for session in self.members:
            session.set_rows(prompts)

    def keep_rows(self, index: Int[Tensor, " r"]) -> None:
        """See `TokenSession.keep_rows`."""
        for session in self.members:
            session.keep_rows(index)

    def prompt_state(self) -> PromptState:
        """Tensors of all members; each key with the index of its member."""
        return {
            (number, key): memory
            for number, session in enumerate(self.members)
            for key, memory in session.prompt_state().items()
        }

    def resume_from(self, state: PromptState, index: Int[Tensor, " r"]) -> None:
        """See `TokenSession.resume_from`."""
        by_member: list[PromptState] = [{} for _ in self.members]
        for key, memory in state.items():
            assert isinstance(key, tuple)
            by_member[key[0]][key[1]] = memory
        for session, memories in zip(self.members, by_member, strict=True):
            session.resume_from(memories, index)


#: Guards the registry: two threads may open blocks on one model at once.
_LOCK = threading.Lock()


def sessions_on(model: Any) -> list[TokenSession]:
    """The sessions in force on a model, the outermost block first.

    Args:
        model: A TransformerLens model, or a transformers model.
    """
    stack: list[TokenSession] = MEMO.get(model, "sessions in force", list)
    return stack


@contextmanager
def registered(model: Any, session: TokenSession) -> Iterator[None]:
    """Register a session as in force on a model inside the block.

    Args:
        model: A TransformerLens model, or a transformers model.
        session: The session.

    Raises:
        InputError: Another thread has a session in force on the model.

    Example:
        >>> with nv.edit(model, edit) as session:
        ...     scores, n = nv.answer_logprobs(model, [nv.Example("mara says", "that")])
        ...     inside = nv.inference.in_force(model, None) is not None
        >>> inside
        True
    """
    with _LOCK:
        stack = sessions_on(model)
        if any(getattr(other, "thread", None) != getattr(session, "thread", None) for other in stack):
            raise InputError(
                "another thread is editing this model: one thread at a time can edit a model; wait for the end of its "
                "block, or load one copy of the model for each thread"
            )
        stack.append(session)
    try:
        yield
    finally:
        with _LOCK:
            stack[:] = [other for other in stack if other is not session]


def in_force(model: Any, session: TokenSession | None) -> TokenSession | None:
    """The session that the loops of `neva_tl` must mark: all sessions in force on the model, and the caller's own.

    Args:
        model: A TransformerLens model.
        session: The caller's session; None where the caller names none.

    Returns:
        One session, a `SessionGroup` of several, or None where the model runs unedited.

    Example:
        >>> nv.inference.in_force(model, None) is None
        True
    """
    if isinstance(session, SessionGroup):
        return session
    members = tuple(sessions_on(model))
    if session is not None and not any(session is other for other in members):
        members = (*members, session)
    if not members:
        return None
    return members[0] if len(members) == 1 else SessionGroup(members)


def same(one: TokenSession | None, other: TokenSession | None) -> bool:
    """Whether two results of `in_force` name the same sessions.

    Args:
        one: A session, a group, or None.
        other: Another one.
    """
    first, second = (x.members if isinstance(x, SessionGroup) else (x,) for x in (one, other))
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))
