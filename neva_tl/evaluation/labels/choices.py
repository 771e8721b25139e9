"""Multiple choice by letters: what the survey and the allocation games ask a model, and how the answer is read.

The model never generates: each option's letter is scored as the answer, and the options are compared by their
log-probabilities. Letters are one token in every common tokenizer, so that all options of a prompt cost one pass.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from neva_tl.core.errors import InputError
from neva_tl.models import Model, inference
from neva_tl.prompts.example import Example

LETTERS = string.ascii_uppercase


def option_lines(options: Sequence[str]) -> str:
    """Options under letters, one a line: `A) ...`."""
    return "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options, strict=False))


def check_options(count: int, what: str) -> None:
    """Refuse fewer than two options, or more than there are letters.

    Raises:
        InputError: as said.
    """
    if not 2 <= count <= len(LETTERS):
        raise InputError(f"{what} needs 2 to {len(LETTERS)} options, not {count}")


def letter_logprobs(
    model: Model,
    prompts: Sequence[str],
    count: int,
    *,
    session: Any = None,
    chat: bool | None = None,
    token_budget: int = 4096,
    progress: bool = False,
) -> Float[np.ndarray, "n k"]:
    """Log-probability (nats) of each of the first `count` letters as the answer to each prompt.

    Args:
        model: a TransformerLens model.
        prompts: questions that show the options under letters.
        count: options of every prompt.
        session: the edit session in force.
        chat, token_budget, progress: as `inference.answer_logprobs`.

    Raises:
        InputError: every edit in force touches generated tokens alone. The letter is read off the prompt's last token,
            which such an edit never reaches: the answer would be the unedited one, and look like a finding.
    """
    if session is not None and session.active_scopes == {"generated"}:
        raise InputError(
            "letters are chosen at the prompt's last token, and edits of scope 'generated' never touch it: "
            "use scope 'last' or 'all'"
        )
    examples = [Example(prompt, letter) for prompt in prompts for letter in LETTERS[:count]]
    total, _ = inference.answer_logprobs(
        model, examples, session=session, chat=chat, token_budget=token_budget, progress=progress
    )
    return np.asarray(total, dtype=np.float64).reshape(len(prompts), count)
