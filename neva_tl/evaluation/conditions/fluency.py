"""Whether edited texts are still language.

Invalid rate, repetition, and how surprised the unedited model is by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neva_tl.evaluation.judges.base import legible, repeated_share
from neva_tl.models import inference
from neva_tl.prompts.example import Example

#: A dose is admissible while its invalid rate stays within this of the unedited rate.
INVALID_SLACK = 0.05


def fluency(
    generations: pd.DataFrame | Sequence[str],
    model: Any | None = None,
    *,
    prompts: Sequence[str] | None = None,
    chat: bool | None = None,
) -> dict[str, float]:
    """Fluency of one condition's texts.

    Args:
        generations: `text` and, where a judge read them, `valid` and `prompt`; or bare texts (validity is then
            legibility).
        model: unedited; adds `perplexity`. Never call this inside an `edit` block.
        prompts: of bare texts.
        chat: of the perplexity; force or forbid the chat template.

    Returns:
        `invalid` (share), `repetition` (mean share of repeated 4-grams), `words` (mean length), and with a model
        `perplexity`: exp of the mean loss over all tokens of non-empty texts given their prompts.
    """
    if isinstance(generations, pd.DataFrame):
        texts = [str(text) for text in generations["text"]]
        valid = generations["valid"].to_numpy(dtype=bool) if "valid" in generations.columns else legible(texts)
        given = list(generations["prompt"]) if "prompt" in generations.columns else list(prompts or [""] * len(texts))
    else:
        texts = list(generations)
        valid, given = legible(texts), list(prompts or [""] * len(texts))
    if not texts:
        return {}
    found = {
        "invalid": float(1.0 - valid.mean()),
        "repetition": float(np.mean([repeated_share(text) for text in texts])),
        "words": float(np.mean([len(text.split()) for text in texts])),
    }
    if model is not None:
        examples = [Example(p, t.strip()) for p, t in zip(given, texts, strict=True) if len(t.split()) > 1]
        if examples:
            total, count = inference.answer_logprobs(model, examples, chat=chat)
            found["perplexity"] = float(np.exp(-np.sum(total) / np.sum(count)))
    return found


def admissible(invalid: float, base_invalid: float, slack: float = INVALID_SLACK) -> bool:
    """Whether a dose may be used: its invalid rate is at most the unedited rate + slack, whatever the judge."""
    return invalid <= base_invalid + slack + 1e-9
