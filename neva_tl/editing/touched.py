"""touched_tokens(): which tokens an edit touches, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.editing.base import Edit
from neva_tl.editing.hooking import edit as apply_edits
from neva_tl.models import inference
from neva_tl.prompts import Example


@check_arguments
def touched_tokens(
    model: models.Model, edits: Edit | Sequence[Edit] | None, prompt: str, answer: str, *, chat: bool | None = None
) -> pd.DataFrame:
    """One row per token of prompt and answer: `position`, `token`, `part` (prompt or generated), `touched`.

    Args:
        model: A TransformerLens model.
        edits: The edit, or several.
        prompt: The prompt.
        answer: The answer, whose tokens count as generated.
        chat: True forces the chat template, False forbids it; None uses it where the tokenizer has one.

    Example:
        >>> table = nv.touched_tokens(model, edit.with_scope("generated"), "mara says", "that kindness wins .")
        >>> table.groupby("part")["touched"].any().to_dict()
        {'generated': True, 'prompt': False}
    """
    batch = inference.encode(model, [Example(prompt, answer)], chat=chat)
    with apply_edits(model, edits, record=True) as session:
        inference.forward_batch(model, batch, session=session, logits=False)
    touched = session.touched[0][0].tolist() if session.touched else [False] * batch.tokens.shape[1]
    tokens = [models.tokenizer(model).decode([int(t)]) for t in batch.tokens[0]]
    roles = ["generated" if bool(a) else "prompt" for a in batch.answer[0]]
    return pd.DataFrame({"position": range(len(tokens)), "token": tokens, "part": roles, "touched": touched})
