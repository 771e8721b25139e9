"""Example: a prompt and the answer whose tokens are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neva_tl.core.brief import brief
from neva_tl.core.errors import InputError
from neva_tl.core.names import describe

#: A conversation as chat libraries write it: mappings with `role` and `content` (`Example.of` checks them).
Messages = Sequence[Any]


@dataclass(frozen=True)
class Example:
    """A prompt and its answer.

    Attributes:
        prompt: Text before the answer (the user's turn for a chat model, plain leading text otherwise); may be "".
        answer: Span whose tokens count (for collecting activations and summing log-probabilities).
        separator: Text between prompt and answer in plain text ("" for languages without spaces, a newline, ...); None writes
            one space where both are present. A chat template replaces it.
        turns: Earlier turns of the conversation as (role, content), the system's first; only for chat models.

    Example:
        >>> nv.Example("Should I save money?", "Yes, a little every week.").answer
        'Yes, a little every week.'
    """

    prompt: str
    answer: str
    separator: str | None = None
    turns: tuple[tuple[str, str], ...] = ()

    __repr__ = brief

    def __new__(cls, prompt: object = "", answer: object = "", *_: object, **__: object) -> Example:
        """Refuse what is not a text, before the fields are set."""
        for name, text in (("prompt", prompt), ("answer", answer)):
            if not isinstance(text, str):
                raise InputError(
                    f"{name} of Example is {describe(text)}: pass a text, as in nv.Example('mara says', 'hello')"
                )
        return super().__new__(cls)

    @property
    def lead(self) -> str:
        """Plain text before the answer."""
        if self.separator is not None:
            return self.prompt + self.separator
        return f"{self.prompt} " if self.prompt and self.answer else self.prompt

    @classmethod
    def of(cls, prompt: str | Messages, answer: str = "") -> Example:
        """Return an example of a prompt, or of a conversation that ends with the user's turn.

        Args:
            prompt: A text, or messages (`{"role": "user", "content": "..."}`), the system's first.
            answer: The answer.

        Raises:
            InputError: The messages are not a conversation that ends with the user's turn.

        Example:
            >>> messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Should I save money?"}]
            >>> nv.Example.of(messages, "Yes.").answer
            'Yes.'
        """
        if isinstance(prompt, str):
            return cls(prompt, answer)
        if isinstance(prompt, Mapping) or not isinstance(prompt, Sequence):
            raise InputError(
                f"a prompt is a text or a list of messages, not {type(prompt).__name__}: a conversation is a list of its own"
            )
        turns = tuple(_turn(number, message) for number, message in enumerate(prompt))
        if not turns or turns[-1][0] != "user":
            last = f"its last role is {turns[-1][0]!r}" if turns else "it is empty"
            raise InputError(f"a conversation ends with the user's turn, and {last}: give the answer separately")
        return cls(turns[-1][1], answer, turns=turns[:-1])


def _turn(number: int, message: Any) -> tuple[str, str]:
    """Check one message and return its role and content."""
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        raise InputError(
            f"message {number} of a conversation is {str(message)[:60]!r}: it needs role and content alone"
        )
    role, content = message["role"], message["content"]
    if not (isinstance(role, str) and isinstance(content, str) and role and content):
        raise InputError(f"message {number} of a conversation: role and content are texts that are not empty")
    return role, content
