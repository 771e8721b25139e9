"""edit_hf(): edits on a plain transformers model, so that its own `generate`, pipelines and calls run edited.

The same edits, changes, session and rules as `edit()` (see `call_reader`), on the modules of the transformers model: nothing is
rewired, and edited generation costs the edit alone, without a TransformerLens wrapper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from neva_tl import models
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.editing.base import Edit, as_edits
from neva_tl.editing.eager import compiled_from
from neva_tl.editing.edits.paced import Paced
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
        refuse_prompt_edit(item)
    model, outer = plain_inside(hf_model)
    session = EditSession(edits=items, record=record)
    with in_force(model, session, [(item, None) for item in items], outer=outer) as running:
        yield running


def refuse_prompt_edit(edit: Edit) -> None:
    """Refuse an edit that works through the prompt's text.

    Args:
        edit: The edit.

    Raises:
        InputError: It does.
    """
    inner = edit.edit if isinstance(edit, Paced) else edit  # a pace passes `rewrite` on
    if type(inner).rewrite is not Edit.rewrite:
        raise InputError(
            f"{type(inner).__name__} works through the prompt's text, which a model never sees: rewrite the prompt "
            "before it is tokenised (neva_tl.editing.rewrite(edit, prompt))"
        )


def plain_inside(hf_model: Any) -> tuple[models.PlainModel, tuple[Any, ...]]:
    """The transformers model inside of what `torch.compile` and PEFT make of it.

    Args:
        hf_model: A transformers model, a PEFT model around one, or either compiled.

    Returns:
        The model, and the PEFT models around it.

    Raises:
        InputError: See `models.plain`.
    """
    outer: list[Any] = []
    model: Any = compiled_from(hf_model)
    while isinstance(model, nn.Module) and hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        outer.append(model)
        base: Any = model
        model = compiled_from(base.get_base_model())
    return models.plain(model), tuple(outer)
