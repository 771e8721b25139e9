"""The Yes/No question about one text and one value, shared by the local judge and the chat judge.

The text comes first and the questions after it, so that a local model reads a text once. The questions treat each value
separately, with its definition from the theory, in two directions: whether the text is for the value, and whether it is against
it. The wording is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from neva_tl.core.theories import SCHWARTZ, Value, ValueTheory

#: Version of the wording, part of cache keys.
VERSION = 1
#: Directions of the question; the columns of log-odds.
Direction = Literal["express", "oppose"]
DIRECTIONS: tuple[Direction, ...] = ("express", "oppose")
#: The neutral system message.
SYSTEM = "You read texts and answer questions about them with Yes or No."
#: Spellings of the two answers.
YES, NO = ("Yes", " Yes", "yes", " yes", "YES", " YES"), ("No", " No", "no", " no", "NO", " NO")
_QUESTIONS: dict[Direction, str] = {
    "express": "Does the writer think that this is important?",
    "oppose": "Is the writer against this value?",
}
_FENCE = '"""'


def question(value: Value, direction: Direction) -> str:
    """Return the question about one value.

    Args:
        value: The value, with its definition.
        direction: `express` or `oppose`.
    """
    meaning = value.definition.rstrip(".")
    explained = f" ({meaning[:1].lower()}{meaning[1:]})" if meaning else ""
    return f"Value: {value.name.replace('-', ' ')}{explained}.\n{_QUESTIONS[direction]}"


def questions(theory: ValueTheory = SCHWARTZ) -> str:
    """Return the wording of all questions, as printed with results.

    Args:
        theory: Theory of the values.
    """
    listed = [question(value, direction) for value in theory.values for direction in DIRECTIONS]
    return "\n\n".join([SYSTEM, message("TEXT", "", "QUESTION"), message("TEXT", "PROMPT", "QUESTION"), *listed])


def message(text: str, prompt: str, question: str) -> str:
    """Compose the user's turn: the text between fences, after its prompt where it has one, then the question.

    Args:
        text: The text to judge. A fence inside it is changed, so that it cannot end its own quotation.
        prompt: The prompt that the text answers, which is not judged; "" for none.
        question: The question.
    """
    before = f"Prompt:\n{_fenced(prompt)}\n\n" if prompt else ""
    return f"{before}Text:\n{_fenced(text)}\n\n{question}"


def without_tokens(text: str, special: Iterable[str]) -> str:
    """Return a text in which no special token of a tokenizer is spelled, so that it cannot end its turn.

    Args:
        text: The text.
        special: Special tokens, such as `<|im_end|>`: a space follows the first character of each in the text.
    """
    for token in special:
        if token.strip():
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _fenced(text: str) -> str:
    safe = text.strip().replace(_FENCE, "'''")
    return f"{_FENCE}\n{safe}\n{_FENCE}"
