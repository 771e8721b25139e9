"""edit_hf(): edits on a plain transformers model, so that its own `generate`, pipelines and calls run edited.

The same edits, changes, session and rules as `edit()` (see `call_reader`), on the modules of the transformers model: nothing is
rewired, and edited generation costs the edit alone, without a TransformerLens wrapper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Edit, as_edits
from neva_tl.editing.call_reader import compiled_from
from neva_tl.editing.hooking import in_force
from neva_tl.editing.session import EditSession


@contextmanager
@check_arguments
def edit_hf(hf_model: Any, *edits: Edit | Sequence[Edit] | None, record: bool = False) -> Iterator[EditSession]:
    """Apply edits to a transformers model inside the block; they compose in order and are removed at its end, also on an error.

    Edits and neuron sets made on the TransformerLens model of the same weights and dtype fit as they are. The first call on a
    model reads its sizes and hashes its weights; later calls cost nothing. A compiled model runs uncompiled inside the block.

    Args:
        hf_model: A transformers causal LM. No TransformerLens model is needed.
        *edits: The edits, or lists of them; at a shared hook point they act one after the other.
        record: Store which tokens were touched (`session.touched`).

    Yields:
        The session.

    Raises:
        InputError: Not a plain causal language model, a mixture of experts, an edit of other weights or sizes, a hook point
            without a module in this model, an edit that works through the prompt, or a model that another thread edits.

    Warns:
        RuntimeWarning: The block ended without a forward pass of the model.

    Example:
        >>> from transformers import AutoModelForCausalLM
        >>> hf_model = AutoModelForCausalLM.from_pretrained(nv.demo.path(), dtype="float32")
        >>> ids = nv.models.tokenizer(model)("mara says that", return_tensors="pt")["input_ids"]
        >>> with nv.edit_hf(hf_model, edit):
        ...     output = hf_model.generate(ids, max_new_tokens=4, do_sample=False)
        >>> output.shape[1] - ids.shape[1]
        4
    """
    items = as_edits([item for edit in edits for item in as_edits(edit)])
    for item in items:
        # Paced passes on the prompt of another edit, which leaves it as it is
        if type(item).rewrite is not Edit.rewrite and item.rewrite("prompt") != "prompt":
            raise InputError(
                f"{type(item).__name__} works through the prompt's text, which a model never sees: rewrite the prompt "
                "before it is tokenised (neva_tl.editing.rewrite(edit, prompt))"
            )
    model = models.plain(compiled_from(hf_model))
    session = EditSession(edits=items, record=record)
    with in_force(model, session, [(item, None) for item in items]) as running:
        yield running
