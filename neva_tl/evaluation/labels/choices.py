"""Multiple-choice questions by letter, for the survey and the allocation games.

The model does not generate: each option's letter is scored as the answer, and the options are compared by their
log-probabilities. A letter is one token in every common tokenizer, so all options of a prompt cost one pass.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example

LETTERS = string.ascii_uppercase


def option_lines(options: Sequence[str]) -> str:
    """Format options as lettered lines, `A) ...`.

    Args:
        options: The options, at most 26.
    """
    return "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options, strict=False))


def check_options(count: int, what: str) -> None:
    """Check that there are at least two options and at most 26.

    Args:
        count: Number of options.
        what: Name of the question in the error message.

    Raises:
        InputError: `count` is out of range.
    """
    if not 2 <= count <= len(LETTERS):
        raise InputError(f"{what} needs 2 to {len(LETTERS)} options, not {count}")


def letter_logprobs(
    model: Model,
    prompts: Sequence[str],
    count: int,
    *,
    session: inference.TokenSession | None = None,
    chat: bool | None = None,
    token_budget: int = 4096,
    progress: bool = False,
) -> Float[np.ndarray, "n k"]:
    """Compute log-probabilities (nats) of letters as the answer to each prompt.

    The letters are the first `count` ones.

    Args:
        model: A TransformerLens model.
        prompts: Questions that list the options under letters.
        count: Number of options of every prompt.
        session: The active edit session.
        chat: See `inference.answer_logprobs`.
        token_budget: See `inference.answer_logprobs`.
        progress: See `inference.answer_logprobs`.

    Raises:
        InputError: Every active edit touches only generated tokens. The letter's probability is computed at the prompt's last
            token, which such an edit never changes: the result would be the unedited one and would look like a measured effect.
    """
    if session is not None and session.active_scopes == {"generated"}:
        raise InputError(
            "letters are scored at the prompt's last token, and edits of scope 'generated' never touch it: "
            "use scope 'last' or 'all'"
        )
    examples = [Example(prompt, letter) for prompt in prompts for letter in LETTERS[:count]]
    total, _ = inference.answer_logprobs(
        model, examples, session=session, chat=chat, token_budget=token_budget, progress=progress
    )
    return np.asarray(total, dtype=np.float64).reshape(len(prompts), count)
