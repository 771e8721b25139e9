"""Fluency of edited texts: invalid rate, repetition, and perplexity under the unedited model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.evaluation.judges.base import legible, repeated_share
from neva_tl.models import inference
from neva_tl.prompts.example import Example

#: A dose is admissible while its invalid rate stays within this of the unedited rate.
INVALID_SLACK = 0.05


@check_arguments
def fluency(
    generations: pd.DataFrame | Sequence[str],
    model: Any | None = None,
    *,
    prompts: Sequence[str] | None = None,
    chat: bool | None = None,
) -> dict[str, float]:
    """Measure the fluency of the texts of one condition.

    Args:
        generations: Table with `text` and, for texts scored by a judge, `valid` and `prompt`; or a list of texts, which
            are valid if they are legible.
        model: Unedited model, to add `perplexity`. Never call this inside an `edit` block.
        prompts: Prompts of a list of texts.
        chat: Force or forbid the chat template for the perplexity; None uses it where the tokenizer has one.

    Returns:
        `invalid` (share), `repetition` (mean share of repeated 4-grams), `words` (mean length), and with a model
        `perplexity`: exp of the mean loss over all tokens of non-empty texts given their prompts.

    Example:
        >>> texts = ["where safety leads , defending the solid door is right ."]
        >>> sorted(nv.evaluation.fluency(texts, model, prompts=["mara thinks that"]))
        ['invalid', 'perplexity', 'repetition', 'words']
    """
    if isinstance(generations, pd.DataFrame):
        if "text" not in generations.columns:
            raise InputError("a table of generated texts needs a column `text`")
        texts = [str(text) for text in generations["text"]]
        valid = generations["valid"].to_numpy(dtype=bool) if "valid" in generations.columns else legible(texts)
        prompt_texts = (
            list(generations["prompt"]) if "prompt" in generations.columns else list(prompts or [""] * len(texts))
        )
    else:
        texts = list(generations)
        valid, prompt_texts = legible(texts), list(prompts or [""] * len(texts))
    if not texts:
        return {}
    result = {
        "invalid": float(1.0 - valid.mean()),
        "repetition": float(np.mean([repeated_share(text) for text in texts])),
        "words": float(np.mean([len(text.split()) for text in texts])),
    }
    if model is not None:
        # a generated text brings its own white space
        examples = [
            Example(p, t, separator="" if t[:1].isspace() else None)
            for p, t in zip(prompt_texts, texts, strict=True)
            if len(t.split()) > 1
        ]
        if examples:
            total, count = inference.answer_logprobs(model, examples, chat=chat)
            result["perplexity"] = float(np.exp(-np.sum(total) / np.sum(count)))
    return result


@check_arguments
def admissible(invalid: float, base_invalid: float, slack: float = INVALID_SLACK) -> bool:
    """Return whether a dose is admissible: its invalid rate is at most the unedited rate + slack.

    Args:
        invalid: Invalid rate at the dose.
        base_invalid: Invalid rate of the unedited model.
        slack: Maximum increase.

    Example:
        >>> nv.evaluation.admissible(0.04, 0.0), nv.evaluation.admissible(0.20, 0.0)
        (True, False)
    """
    return invalid <= base_invalid + slack + 1e-9
